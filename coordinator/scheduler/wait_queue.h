#ifndef KVEC_COORDINATOR_SCHEDULER_WAIT_QUEUE_H_
#define KVEC_COORDINATOR_SCHEDULER_WAIT_QUEUE_H_

#include <cstdint>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/request_state.h"

namespace kvec::coordinator::scheduler {

// The sequences that wait to be started, by rank. Only requests that were never started count
// against the bounds: one that was preempted has been accepted and is not turned away.
class WaitQueue {
 public:
  WaitQueue(uint32_t max_requests, uint64_t max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  // RESOURCE_EXHAUSTED when one more request with this prompt would be beyond the bounds; to be
  // tried again after as long as the first one has waited (common/retry_after.h).
  absl::Status CheckRoom(uint32_t prompt_tokens, absl::Time now) const;

  void Add(Sequence* sequence);
  // Must be called before the request's was_started changes.
  void Remove(Sequence* sequence);

  Sequence* head() const { return sequences_.empty() ? nullptr : *sequences_.begin(); }
  uint32_t num_new_requests() const { return num_new_requests_; }
  uint64_t num_new_tokens() const { return num_new_tokens_; }

 private:
  absl::Status Refusal(absl::string_view reason, absl::Time now) const;

  const uint32_t max_requests_;
  const uint64_t max_tokens_;
  std::set<Sequence*, RankLess> sequences_;
  uint32_t num_new_requests_ = 0;  // never started
  uint64_t num_new_tokens_ = 0;    // of their prompts
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_WAIT_QUEUE_H_
