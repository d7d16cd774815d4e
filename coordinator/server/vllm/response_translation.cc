#include "coordinator/server/vllm/response_translation.h"

#include <algorithm>
#include <utility>

namespace kvec::coordinator::server::vllm {
namespace {

namespace engine = ::vllm::grpc::engine;

void AddTop(const v1::TokenLogProbs& logprobs, engine::TopLogProbs* top) {
  for (const v1::TokenLogProb& entry : logprobs.top()) {
    top->add_values(entry.log_prob());
    top->add_token_ids(entry.token_id());
  }
}

void AddLogProbs(const v1::GenerateResponse& response, engine::OutputLogProbs* out) {
  for (const v1::TokenLogProbs& entry : response.logprobs()) {
    out->add_token_logprobs(entry.chosen().log_prob());
    out->add_token_ids(entry.chosen().token_id());
    AddTop(entry, out->add_top_logprobs());
  }
}

const char* ReasonName(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_LENGTH ? "length" : "stop";
}

void Finish(const v1::GenerateResponse& response, engine::GenerateComplete& complete) {
  complete.set_finish_reason(ReasonName(response.finish_reason()));
  if (response.has_stop_string()) complete.set_matched_stop_str(response.stop_string());
  if (response.has_stop_token_id()) complete.set_matched_token_id(response.stop_token_id());
}

}  // namespace

ResponseTranslation::ResponseTranslation(const engine::GenerateRequest& request,
                                         uint32_t num_prompt_tokens)
    : is_stream_(request.stream()),
      num_choices_(std::max(request.sampling_params().n(), 1u)),
      num_prompt_tokens_(num_prompt_tokens) {}

ResponseTranslation::Messages ResponseTranslation::Translate(const v1::GenerateResponse& response) {
  Messages messages;
  if (!response.prompt_token_ids().empty()) {
    num_prompt_tokens_ = static_cast<uint32_t>(response.prompt_token_ids_size());
    first_prompt_token_ = response.prompt_token_ids(0);
  }
  AddPromptLogProbs(response);
  if (response.choice() >= choices_.size()) choices_.resize(response.choice() + 1);
  Choice& choice = choices_[response.choice()];
  choice.complete.mutable_output_ids()->MergeFrom(response.token_ids());
  if (is_stream_) {
    AddChunk(response, messages);
  } else if (!response.logprobs().empty()) {
    AddLogProbs(response, choice.complete.mutable_output_logprobs());
  }
  if (response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    Finish(response, choice.complete);
    choice.is_finished = true;
    ++num_finished_;
  }
  if (response.has_usage()) {
    for (Choice& each : choices_) {
      each.complete.set_cached_tokens(response.usage().cached_tokens());
    }
  }
  AddComplete(response.has_usage(), messages);
  return messages;
}

void ResponseTranslation::AddPromptLogProbs(const v1::GenerateResponse& response) {
  // They begin with the prompt's second token.
  if (!response.prompt_logprobs().empty() && prompt_logprobs_.token_ids().empty()) {
    prompt_logprobs_.add_token_logprobs();
    prompt_logprobs_.add_token_ids(first_prompt_token_);
    prompt_logprobs_.add_top_logprobs();
  }
  for (const v1::TokenLogProbs& entry : response.prompt_logprobs()) {
    prompt_logprobs_.add_token_logprobs()->set_value(entry.chosen().log_prob());
    prompt_logprobs_.add_token_ids(entry.chosen().token_id());
    AddTop(entry, prompt_logprobs_.add_top_logprobs());
  }
}

void ResponseTranslation::AddChunk(const v1::GenerateResponse& response, Messages& messages) {
  if (response.token_ids().empty()) return;
  engine::GenerateStreamChunk& chunk = *messages.emplace_back().mutable_chunk();
  chunk.set_index(response.choice());
  *chunk.mutable_token_ids() = response.token_ids();
  chunk.set_prompt_tokens(num_prompt_tokens_);
  chunk.set_completion_tokens(choices_[response.choice()].complete.output_ids_size());
  if (!response.logprobs().empty()) AddLogProbs(response, chunk.mutable_output_logprobs());
  if (response.choice() == 0 && !prompt_logprobs_.token_ids().empty()) {
    *chunk.mutable_input_logprobs() = std::exchange(prompt_logprobs_, {});
  }
}

void ResponseTranslation::AddComplete(bool has_usage, Messages& messages) {
  // Who streams learns at once that a choice has ended; the last one tells the usage.
  if (!has_usage && (!is_stream_ || num_finished_ == num_choices_)) return;
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    if (!choice.is_finished || std::exchange(choice.is_sent, true)) continue;
    choice.complete.set_index(static_cast<uint32_t>(i));
    choice.complete.set_prompt_tokens(num_prompt_tokens_);
    choice.complete.set_completion_tokens(choice.complete.output_ids_size());
    if (i == 0 && !prompt_logprobs_.token_ids().empty()) {
      *choice.complete.mutable_input_logprobs() = std::exchange(prompt_logprobs_, {});
    }
    *messages.emplace_back().mutable_complete() = std::exchange(choice.complete, {});
  }
}

}  // namespace kvec::coordinator::server::vllm
