#include "worker/engine/sampled_tokens.h"

#include <utility>

#include "absl/types/span.h"
#include "common/status_macros.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::engine {
namespace {

// Of a message: far below the size from which communicators wait for the receiver.
constexpr size_t kMaxTokens = 256;
// Messages that may wait to be received; far more than there are Steps in flight, so that the
// oldest of more has long been sent. Requests of one token each would else pile them up for ever.
constexpr size_t kMaxPending = 64;

// Calls transfer(span) with consecutive parts of at most kMaxTokens.
template <typename Transfer>
absl::Status InParts(std::vector<int32_t>& tokens, const Transfer& transfer) {
  const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(tokens.data()),
                                  tokens.size() * sizeof(int32_t));
  constexpr size_t kMaxBytes = kMaxTokens * sizeof(int32_t);
  for (size_t begin = 0; begin < bytes.size(); begin += kMaxBytes) {
    KVEC_RETURN_IF_ERROR(transfer(bytes.subspan(begin, kMaxBytes)));
  }
  return absl::OkStatus();
}

}  // namespace

void SampledTokens::SetComm(comm::GroupComm* comm) {
  comm_ = comm;
  num_received_ = 0;
  pending_.clear();
}

bool SampledTokens::IsHere() const {
  return comm_ == nullptr || (comm_->stage + 1 == comm_->num_stages && comm_->rank == 0);
}

absl::Status SampledTokens::Share(const StepPlan& plan) {
  if (comm_ == nullptr || comm_->num_stages * comm_->num_ranks == 1) return absl::OkStatus();
  std::vector<int32_t> tokens;
  std::vector<Draw> draws;
  for (const StepPlan::Output& output : plan.outputs) {
    if (!output.is_draw()) continue;
    const v1::SequenceResult& result = plan.result.results(output.result);
    tokens.push_back(static_cast<int32_t>(result.token_id()));
    draws.push_back({result.sequence_id(), result.choice()});
    if (!IsHere()) {
      plan.sequences[output.work]->set_awaited_sample(num_received_ + pending_.size() + 1);
    }
  }
  if (draws.empty()) return absl::OkStatus();
  if (IsHere()) return Send(tokens);
  pending_.push_back(std::move(draws));
  return pending_.size() > kMaxPending ? ReceiveNext() : absl::OkStatus();
}

absl::Status SampledTokens::Send(const std::vector<int32_t>& tokens) {
  std::vector<int32_t> message = tokens;
  const trace::ScopedSpan span("share tokens");
  for (int to = 0; to < comm_->num_stages * comm_->num_ranks; ++to) {
    if (to == comm_->Index(comm_->stage, comm_->rank)) continue;
    KVEC_RETURN_IF_ERROR(
        InParts(message, [&](absl::Span<uint8_t> part) { return comm_->group->Send(to, part); }));
  }
  return absl::OkStatus();
}

absl::Status SampledTokens::ReceiveNext() {
  const std::vector<Draw> draws = std::move(pending_.front());
  pending_.pop_front();
  ++num_received_;
  std::vector<int32_t> tokens(draws.size());
  const trace::ScopedSpan span("await tokens");
  const int from = comm_->Index(comm_->num_stages - 1, 0);
  KVEC_RETURN_IF_ERROR(
      InParts(tokens, [&](absl::Span<uint8_t> part) { return comm_->group->Receive(from, part); }));
  for (size_t i = 0; i < draws.size(); ++i) {
    const auto found = sequences_.find(draws[i].sequence_id);
    // Others have ended, or had another token sampled since.
    if (found == sequences_.end() || found->second->awaited_sample() != num_received_) continue;
    found->second->SetSampled(draws[i].choice, tokens[i]);
  }
  return absl::OkStatus();
}

absl::Status SampledTokens::Await(Sequence& sequence) {
  while (num_received_ < sequence.awaited_sample()) KVEC_RETURN_IF_ERROR(ReceiveNext());
  return absl::OkStatus();
}

}  // namespace kvec::worker::engine
