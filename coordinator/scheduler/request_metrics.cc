#include "coordinator/scheduler/request_metrics.h"

namespace kvec::coordinator::scheduler {

void RequestMetrics::OnScheduled(absl::Time now) {
  if (!scheduled_.has_value()) scheduled_ = now;
}

void RequestMetrics::OnToken(uint32_t choice, absl::Time now) {
  ++completion_tokens_;
  if (!first_token_.has_value()) first_token_ = now;
  if (choice != 0) return;
  if (first_token_of_choice_0_.has_value()) {
    inter_token_ms_.push_back(
        static_cast<float>(absl::ToDoubleMilliseconds(now - last_token_of_choice_0_)));
  } else {
    first_token_of_choice_0_ = now;
  }
  last_token_of_choice_0_ = now;
}

void RequestMetrics::OnChoiceFinished(const PageLedger::Bytes& bytes) {
  bytes_.pages += bytes.pages;
  bytes_.entries += bytes.entries;
  bytes_.peak_pages += bytes.peak_pages;
}

void RequestMetrics::Fill(uint32_t prompt_tokens, v1::Usage& usage) const {
  usage.set_prompt_tokens(prompt_tokens);
  usage.set_completion_tokens(completion_tokens_);
  usage.set_cached_tokens(cached_tokens_);
  usage.set_preemptions(preemptions_);
  usage.set_kv_bytes(bytes_.pages);
  usage.set_logical_kv_bytes(bytes_.entries);
  usage.set_peak_kv_bytes(bytes_.peak_pages);
  if (scheduled_.has_value()) {
    usage.set_queue_ms(absl::ToDoubleMilliseconds(*scheduled_ - arrival_));
  }
  if (first_token_.has_value()) {
    usage.set_time_to_first_token_ms(absl::ToDoubleMilliseconds(*first_token_ - arrival_));
    usage.set_prefill_ms(absl::ToDoubleMilliseconds(*first_token_ - *scheduled_));
  }
  if (!inter_token_ms_.empty()) {
    const absl::Duration decode = last_token_of_choice_0_ - *first_token_of_choice_0_;
    if (decode > absl::ZeroDuration()) {
      usage.set_decode_tokens_per_second(static_cast<double>(inter_token_ms_.size()) /
                                         absl::ToDoubleSeconds(decode));
    }
    usage.mutable_inter_token_ms()->Add(inter_token_ms_.begin(), inter_token_ms_.end());
  }
}

}  // namespace kvec::coordinator::scheduler
