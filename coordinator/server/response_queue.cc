#include "coordinator/server/response_queue.h"

#include <algorithm>
#include <utility>

namespace kvec::coordinator::server {
namespace {

// Clients refuse messages above 4 MiB unless told otherwise.
constexpr size_t kLargeMessageBytes = 1 << 20;
constexpr size_t kTokenBytes = 4;
constexpr size_t kLogProbBytes = 14;  // of a TokenLogProb

size_t ApproximateBytes(const v1::TokenLogProbs& logprobs) {
  return kLogProbBytes * (1 + logprobs.top_size());
}

std::vector<int32_t> StopTokens(const scheduler::Request& request) {
  // A forced token ends nothing, whichever it is.
  return request.forced_tokens.empty() ? request.stop_token_ids : std::vector<int32_t>();
}

}  // namespace

ResponseQueue::ResponseQueue(const text::Tokenizer& tokenizer, const v1::GenerateRequest& original,
                             const scheduler::Request& request)
    : tokenizer_(tokenizer), stop_token_ids_(StopTokens(request)) {
  head_.emplace();
  head_->set_request_id(request.id);
  head_->set_seed(request.sampling.seed());
  head_->mutable_prompt_token_ids()->Assign(request.prompt.begin(), request.prompt.end());
  const std::vector<std::string> stops(original.stopping().stop().begin(),
                                       original.stopping().stop().end());
  choices_.reserve(request.num_choices);
  for (uint32_t i = 0; i < request.num_choices; ++i) {
    choices_.push_back({text::IncrementalDetokenizer(tokenizer, /*skip_special=*/true),
                        text::StopMatcher(stops, original.stopping().include_stop()),
                        std::nullopt});
  }
}

void ResponseQueue::AddPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) {
  for (const v1::TokenLogProbs& entry : logprobs) {
    Message& message = MessageOf(0);
    *message.response.add_prompt_logprobs() = entry;
    message.approximate_bytes += ApproximateBytes(entry);
  }
}

scheduler::Verdict ResponseQueue::AddToken(uint32_t choice, int32_t token,
                                           const v1::TokenLogProbs* logprobs) {
  Choice& state = choices_[choice];
  Message& message = MessageOf(choice);
  message.response.add_token_ids(static_cast<uint32_t>(token));
  message.approximate_bytes += kTokenBytes;
  if (logprobs != nullptr) {
    *message.response.add_logprobs() = *logprobs;
    message.approximate_bytes += ApproximateBytes(*logprobs);
  }
  if (IsStopToken(token)) {
    state.stop_token = token;
    return scheduler::Verdict::kContinue;  // the scheduler knows it too
  }
  const std::string text = state.stop_matcher.Push(Detokenize(state, token));
  message.response.mutable_text()->append(text);
  message.approximate_bytes += text.size();
  return state.stop_matcher.matched().has_value() ? scheduler::Verdict::kStop
                                                  : scheduler::Verdict::kContinue;
}

void ResponseQueue::FinishChoice(uint32_t choice, v1::FinishReason reason) {
  Choice& state = choices_[choice];
  v1::GenerateResponse& response = MessageOf(choice).response;
  if (!state.stop_matcher.matched().has_value()) {
    response.mutable_text()->append(state.stop_matcher.Push(state.detokenizer.Flush()));
  }
  if (!state.stop_matcher.matched().has_value()) {
    response.mutable_text()->append(state.stop_matcher.Flush());
  }
  response.set_finish_reason(reason);
  if (state.stop_matcher.matched().has_value()) {
    // Perhaps only now, at the end of the text, and the scheduler has another reason.
    response.set_finish_reason(v1::FINISH_REASON_STOP);
    response.set_stop_string(*state.stop_matcher.matched());
  } else if (state.stop_token.has_value()) {
    response.set_stop_token_id(static_cast<uint32_t>(*state.stop_token));
  }
}

void ResponseQueue::AddUsage(const v1::Usage& usage) {
  if (queue_.empty()) queue_.emplace_back();
  *queue_.back().response.mutable_usage() = usage;
}

std::optional<v1::GenerateResponse> ResponseQueue::Pop() {
  if (queue_.empty()) return std::nullopt;
  Message& front = queue_.front();
  Choice& choice = choices_[front.response.choice()];
  if (choice.waiting == &front) choice.waiting = nullptr;
  std::optional<v1::GenerateResponse> response = std::move(front.response);
  queue_.pop_front();
  return response;
}

ResponseQueue::Message& ResponseQueue::MessageOf(uint32_t choice) {
  Choice& state = choices_[choice];
  if (state.waiting == nullptr || state.waiting->approximate_bytes >= kLargeMessageBytes) {
    state.waiting = &queue_.emplace_back();
    if (choice == 0 && head_.has_value()) {
      state.waiting->approximate_bytes = kTokenBytes * head_->prompt_token_ids_size();
      state.waiting->response = *std::exchange(head_, std::nullopt);
    }
    state.waiting->response.set_choice(choice);
  }
  return *state.waiting;
}

bool ResponseQueue::IsStopToken(int32_t token) const {
  return std::binary_search(stop_token_ids_.begin(), stop_token_ids_.end(), token);
}

std::string ResponseQueue::Detokenize(Choice& choice, int32_t token) const {
  // Embeddings are often padded to more rows than the tokenizer has tokens.
  return token < tokenizer_.vocab_size() ? choice.detokenizer.Push(token) : std::string();
}

}  // namespace kvec::coordinator::server
