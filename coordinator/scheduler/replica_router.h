#ifndef KVEC_COORDINATOR_SCHEDULER_REPLICA_ROUTER_H_
#define KVEC_COORDINATOR_SCHEDULER_REPLICA_ROUTER_H_

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/request.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// The schedulers of a model's replicas as one, for those who have requests: which replica gets a
// request is decided when it comes, and stays so. A request of a session goes where the session is.
// Any other goes to the replica that has least to do with it: the fewest tokens of requests that
// run or wait, and of this request's prompt that are not in its cache; one whose group is soon to
// be given up only when no other has a group. Thread-safe.
class ReplicaRouter {
 public:
  // At least one; they must outlive it.
  explicit ReplicaRouter(std::vector<Scheduler*> replicas) : replicas_(std::move(replicas)) {}

  // As Scheduler's.
  absl::Status Submit(Request request, absl::Time now);
  bool HasSession(absl::string_view session_id) const;
  void Cancel(absl::string_view request_id, const absl::Status& reason, absl::Time now);
  // Of all replicas, the oldest first.
  std::vector<v1::RequestStatus> RequestStatuses(uint32_t max_requests, absl::Time now) const;
  // Sums.
  SchedulerCounts counts() const;

  const std::vector<Scheduler*>& replicas() const { return replicas_; }

 private:
  Scheduler& Choose(const Request& request) const;

  const std::vector<Scheduler*> replicas_;
  // Held while a request is submitted: no two replicas get the same request or session. Taken
  // before the schedulers' own.
  std::mutex submit_mutex_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REPLICA_ROUTER_H_
