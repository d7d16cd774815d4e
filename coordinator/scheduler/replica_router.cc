#include "coordinator/scheduler/replica_router.h"

#include <algorithm>
#include <tuple>

namespace kvec::coordinator::scheduler {

absl::Status ReplicaRouter::Submit(Request request, absl::Time now) {
  if (replicas_.size() == 1) return replicas_.front()->Submit(std::move(request), now);
  const std::lock_guard lock(submit_mutex_);
  Scheduler& replica = Choose(request);
  return replica.Submit(std::move(request), now);
}

Scheduler& ReplicaRouter::Choose(const Request& request) const {
  for (Scheduler* replica : replicas_) {
    if (replica->Knows(request.id, request.session_id)) return *replica;
  }
  const auto cost = [&](const Scheduler& replica) {
    const SchedulerCounts counts = replica.counts();
    return std::make_tuple(
        -static_cast<int>(replica.readiness()),
        counts.num_tokens + request.prompt.size() - replica.CountCachedTokens(request.prompt),
        counts.num_running + counts.num_waiting);
  };
  Scheduler* best = replicas_.front();
  auto least = cost(*best);
  for (Scheduler* replica : replicas_) {
    const auto of_this = cost(*replica);
    if (of_this >= least) continue;
    best = replica;
    least = of_this;
  }
  return *best;
}

bool ReplicaRouter::HasSession(absl::string_view session_id) const {
  return std::any_of(replicas_.begin(), replicas_.end(),
                     [&](const Scheduler* replica) { return replica->HasSession(session_id); });
}

void ReplicaRouter::Cancel(absl::string_view request_id, const absl::Status& reason,
                           absl::Time now) {
  for (Scheduler* replica : replicas_) replica->Cancel(request_id, reason, now);
}

std::vector<v1::RequestStatus> ReplicaRouter::RequestStatuses(uint32_t max_requests,
                                                              absl::Time now) const {
  std::vector<v1::RequestStatus> all;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    for (v1::RequestStatus& status : replicas_[i]->RequestStatuses(max_requests, now)) {
      status.set_replica(static_cast<uint32_t>(i));
      all.push_back(std::move(status));
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.age_seconds() > b.age_seconds(); });
  if (all.size() > max_requests) all.resize(max_requests);
  return all;
}

SchedulerCounts ReplicaRouter::counts() const {
  SchedulerCounts sum;
  for (const Scheduler* replica : replicas_) {
    const SchedulerCounts counts = replica->counts();
    sum.num_running += counts.num_running;
    sum.num_waiting += counts.num_waiting;
    sum.waiting_prompt_tokens += counts.waiting_prompt_tokens;
    sum.steps += counts.steps;
    sum.generated_tokens += counts.generated_tokens;
    sum.prompt_tokens += counts.prompt_tokens;
    sum.preemptions += counts.preemptions;
    sum.prefix_cache_queries += counts.prefix_cache_queries;
    sum.prefix_cache_hits += counts.prefix_cache_hits;
    sum.num_sessions += counts.num_sessions;
    sum.num_tokens += counts.num_tokens;
  }
  return sum;
}

}  // namespace kvec::coordinator::scheduler
