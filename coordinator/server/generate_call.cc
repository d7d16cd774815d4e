#include "coordinator/server/generate_call.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/logging.h"
#include "common/retry_after.h"
#include "common/status_macros.h"
#include "coordinator/server/request_validation.h"
#include "coordinator/server/trace_context.h"

namespace kvec::coordinator::server {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                  : absl::FromChrono(deadline);
}

// gRPC's clients with a retry policy wait as long as this asks for (gRFC A6).
void AddRetryPushback(const absl::Status& status, grpc::CallbackServerContext& context) {
  const std::optional<absl::Duration> pause = RetryAfter(status);
  if (!pause.has_value()) return;
  context.AddTrailingMetadata("grpc-retry-pushback-ms",
                              absl::StrCat(absl::ToInt64Milliseconds(*pause)));
}

}  // namespace

void GenerateCall::Start(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request) {
  context_ = &context;
  self_ = shared_from_this();
  deadline_ = DeadlineOf(context);
  trace_id_ = TraceIdOf(context);
  absl::Status status = serving_.calls.Begin();
  counted_ = status.ok();
  if (status.ok()) {
    status = serving_.tasks.Post([self = self_, request, arrival = absl::Now()] {
      if (absl::Status submitted = self->Submit(request, arrival); !submitted.ok()) {
        VLOG(1) << "trace " << self->trace_id_
                << ": a request was refused: " << submitted.ToString();
        self->End(submitted);
      }
    });
  }
  if (!status.ok()) End(status);
}

absl::Status GenerateCall::Submit(const grpc::ByteBuffer& bytes, absl::Time arrival) {
  KVEC_ASSIGN_OR_RETURN(const v1::GenerateRequest original, protocol_->Parse(bytes));
  if (!serving_.pump.group_ready()) {
    return absl::UnavailableError("no group of workers is ready");
  }
  const bool is_follow_up =
      !original.session_id().empty() && serving_.replicas.HasSession(original.session_id());
  KVEC_ASSIGN_OR_RETURN(
      scheduler::Request request,
      ValidateRequest(original, serving_.model, serving_.default_cache, is_follow_up));
  request.deadline = deadline_;
  request.sink = shared_from_this();
  request.trace_id = trace_id_;
  const std::string id = request.id;
  VLOG(1) << id << ", trace " << trace_id_ << ": " << request.prompt.size()
          << " prompt tokens, at most " << request.max_tokens << " new ones, "
          << request.num_choices << " choices";
  {
    const std::lock_guard lock(mutex_);
    request_id_ = id;
    queue_ = std::make_unique<ResponseQueue>(*serving_.model.tokenizer, original, request);
  }
  KVEC_RETURN_IF_ERROR(serving_.replicas.Submit(std::move(request), arrival));
  bool cancelled = false;
  {
    const std::lock_guard lock(mutex_);
    submitted_ = true;
    cancelled = cancelled_;
  }
  // The client left while the request was being submitted.
  if (cancelled) {
    serving_.replicas.Cancel(id, absl::CancelledError("the client left"), absl::Now());
  }
  serving_.pump.Wake();
  return absl::OkStatus();
}

void GenerateCall::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
  }
  if (!ok) OnCancel();
  Advance();
}

void GenerateCall::OnCancel() {
  std::string id;
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (!submitted_) return;
    id = request_id_;
  }
  // gRPC reports a passed deadline as a cancellation.
  const absl::Time now = absl::Now();
  serving_.replicas.Cancel(id,
                           now >= deadline_ ? absl::DeadlineExceededError("the deadline passed")
                                            : absl::CancelledError("the client left"),
                           now);
  serving_.pump.Wake();
}

void GenerateCall::OnDone() {
  if (counted_) serving_.calls.End();
  self_.reset();
}

void GenerateCall::OnPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) {
  {
    const std::lock_guard lock(mutex_);
    queue_->AddPromptLogProbs(logprobs);
  }
  Advance();
}

scheduler::Verdict GenerateCall::OnToken(uint32_t choice, int32_t token,
                                         const v1::TokenLogProbs* logprobs) {
  scheduler::Verdict verdict;
  {
    const std::lock_guard lock(mutex_);
    verdict = queue_->AddToken(choice, token, logprobs);
  }
  Advance();
  return verdict;
}

void GenerateCall::OnChoiceFinished(uint32_t choice, v1::FinishReason reason) {
  serving_.metrics.OnChoiceFinished(reason);
  {
    const std::lock_guard lock(mutex_);
    queue_->FinishChoice(choice, reason);
  }
  Advance();
}

void GenerateCall::OnDone(const absl::Status& status, const v1::Usage& usage) {
  serving_.metrics.OnRequestDone(status, usage);
  {
    const std::lock_guard lock(mutex_);
    LOG(INFO) << request_id_ << ", trace " << trace_id_ << ": "
              << (status.ok() ? "finished" : status.ToString()) << ", " << usage.prompt_tokens()
              << " prompt and " << usage.completion_tokens() << " generated tokens";
    if (status.ok()) queue_->AddUsage(usage);
  }
  End(status);
}

void GenerateCall::End(const absl::Status& status) {
  {
    const std::lock_guard lock(mutex_);
    end_status_ = status;
  }
  Advance();
}

bool GenerateCall::TakeMessage() {
  // To a client that has left nothing can be written.
  if (queue_ == nullptr || cancelled_) return false;
  while (messages_.empty()) {
    const std::optional<v1::GenerateResponse> response = queue_->Pop();
    if (!response.has_value()) return false;
    protocol_->Append(*response, messages_);
  }
  outgoing_ = std::move(messages_.front());
  messages_.pop_front();
  return true;
}

void GenerateCall::Advance() {
  absl::Status end;
  bool finish = false;
  {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (TakeMessage()) {
      writing_ = true;
    } else if (end_status_.has_value()) {
      finished_ = true;
      finish = true;
      end = *end_status_;
    } else {
      return;
    }
  }
  if (finish) {
    AddRetryPushback(end, *context_);
    Finish(ToGrpcStatus(end));
  } else {
    StartWrite(&outgoing_);
  }
}

}  // namespace kvec::coordinator::server
