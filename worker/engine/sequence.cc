#include "worker/engine/sequence.h"

#include <algorithm>

namespace kvec::worker::engine {

Sequence::Sequence(const v1::SequenceStart& start, std::unique_ptr<cache::SequenceCache> cache)
    : id_(start.sequence_id()),
      sampling_(start.sampling()),
      cache_policy_(start.cache()),
      prompt_tokens_(start.prompt_tokens()),
      first_prompt_tokens_(start.first_prompt_tokens() > 0 ? start.first_prompt_tokens()
                                                           : start.prompt_tokens()),
      cache_(std::move(cache)),
      stop_token_ids_(sampling_.stop_token_ids().begin(), sampling_.stop_token_ids().end()) {
  for (const auto& [token, bias] : sampling_.logit_bias()) logit_bias_.emplace_back(token, bias);
  std::sort(logit_bias_.begin(), logit_bias_.end());
}

std::unique_ptr<Sequence> Sequence::Fork(const v1::SequenceStart& start,
                                         std::unique_ptr<cache::SequenceCache> cache) const {
  auto child = std::make_unique<Sequence>(start, std::move(cache));
  const auto sampled = sampled_for_forks_.find(child->choice());
  if (sampled != sampled_for_forks_.end()) child->last_sampled_ = sampled->second;
  child->counter_ = counter_;
  return child;
}

void Sequence::SetSampled(uint32_t choice, int32_t token) {
  if (choice == sampling_.choice()) {
    last_sampled_ = token;
  } else {
    sampled_for_forks_[choice] = token;
  }
}

bool Sequence::HasPenalties() const {
  return sampling_.repetition_penalty() != 1 || sampling_.frequency_penalty() != 0 ||
         sampling_.presence_penalty() != 0;
}

void Sequence::Count(int32_t token, uint32_t position) {
  if (HasPenalties()) counter_.Add(token, position < prompt_tokens_);
  if (query_window_ != nullptr) tokens_.push_back(token);
}

kernels::SampleRequest Sequence::DrawRequest(int row, uint32_t position,
                                             uint32_t choice) const {
  kernels::SampleRequest request;
  request.row = row;
  request.temperature = sampling_.temperature();
  request.top_k = static_cast<int>(sampling_.top_k());
  request.top_p = sampling_.top_p();
  request.min_p = sampling_.min_p();
  request.repetition_penalty = sampling_.repetition_penalty();
  request.frequency_penalty = sampling_.frequency_penalty();
  request.presence_penalty = sampling_.presence_penalty();
  request.counts = counter_.counts();
  request.logit_bias = logit_bias_;
  if (position < prompt_tokens_ + sampling_.min_tokens()) request.banned = stop_token_ids_;
  request.seed = sampling_.seed();
  request.choice = choice;
  request.position = position;
  request.num_logprobs = sampling_.logprobs();
  return request;
}

kernels::SampleRequest Sequence::ScoreRequest(int row, uint32_t position, int32_t token) const {
  kernels::SampleRequest request;
  request.row = row;
  request.position = position;
  request.given_token = token;
  const int num_logprobs =
      position < prompt_tokens_ ? sampling_.prompt_logprobs() : sampling_.logprobs();
  request.num_logprobs = std::max(0, num_logprobs);
  return request;
}

}  // namespace kvec::worker::engine
