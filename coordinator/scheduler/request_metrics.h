#ifndef KVEC_COORDINATOR_SCHEDULER_REQUEST_METRICS_H_
#define KVEC_COORDINATOR_SCHEDULER_REQUEST_METRICS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/page_ledger.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// When things happened to a request, and how often: the numbers of v1::Usage.
class RequestMetrics {
 public:
  explicit RequestMetrics(absl::Time arrival) : arrival_(arrival) {}

  absl::Time arrival() const { return arrival_; }

  // A Step has work of the request; only the first call counts.
  void OnScheduled(absl::Time now);
  // The prompt's first num_tokens were found in the cache.
  void OnCached(uint32_t num_tokens) { cached_tokens_ = num_tokens; }
  void OnToken(uint32_t choice, absl::Time now);
  void OnPreempted() { ++preemptions_; }
  // A choice has ended and held these.
  void OnChoiceFinished(const PageLedger::Bytes& bytes);

  void Fill(uint32_t prompt_tokens, v1::Usage& usage) const;

 private:
  const absl::Time arrival_;
  std::optional<absl::Time> scheduled_;
  std::optional<absl::Time> first_token_;
  // Of choice 0: an estimate of one stream's speed should not mix streams.
  std::optional<absl::Time> first_token_of_choice_0_;
  absl::Time last_token_of_choice_0_;
  std::vector<float> inter_token_ms_;
  uint32_t cached_tokens_ = 0;
  uint32_t completion_tokens_ = 0;
  uint32_t preemptions_ = 0;
  PageLedger::Bytes bytes_;  // of all choices that have ended
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REQUEST_METRICS_H_
