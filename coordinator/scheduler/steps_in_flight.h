#ifndef KVEC_COORDINATOR_SCHEDULER_STEPS_IN_FLIGHT_H_
#define KVEC_COORDINATOR_SCHEDULER_STEPS_IN_FLIGHT_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/request_state.h"
#include "coordinator/scheduler/sequence.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

// One sequence's work in a Step, and how much of its result has come.
struct WorkInFlight {
  std::shared_ptr<RequestState> request;
  uint32_t choice = 0;  // the first, when it samples for several
  uint64_t sequence_id = 0;
  WorkPlan plan;
  uint32_t num_sampled = 0;  // tokens that came
  bool is_scored = false;    // scores came
  uint32_t num_curves = 0;   // that came

  bool is_answered() const {
    return num_sampled == plan.num_samples && (is_scored || plan.num_scored == 0) &&
           num_curves == plan.num_curves;
  }
};

// A Step that was sent and that not all workers have answered.
class StepInFlight {
 public:
  StepInFlight(uint64_t step_id, std::vector<WorkInFlight> work,
               std::vector<uint64_t> used_at_most);

  uint64_t step_id() const { return step_id_; }
  std::vector<WorkInFlight>& work() { return work_; }
  // Null for a sequence that has no work in the Step. Quickest in the order of work(), in which
  // workers answer.
  WorkInFlight* Find(uint64_t sequence_id);
  uint32_t num_evicted() const { return num_evicted_; }  // sequences
  // Results of sequences that a worker has given.
  void AddResults(const v1::StepResult& result) {
    results_.insert(results_.end(), result.results().begin(), result.results().end());
  }
  const std::vector<v1::SequenceResult>& results() const { return results_; }
  // Pages, as PageLedger::EndStep gave them.
  uint64_t used_at_most(uint32_t worker) const { return used_at_most_[worker]; }

 private:
  uint64_t step_id_;
  std::vector<WorkInFlight> work_;
  uint32_t next_ = 0;                              // place in work_ after the one found last
  absl::flat_hash_map<uint64_t, uint32_t> index_;  // sequence id → place in work_; made when needed
  uint32_t num_evicted_ = 0;
  std::vector<uint64_t> used_at_most_;  // [workers]
  std::vector<v1::SequenceResult> results_;
};

// The Steps of a group that were sent and not yet answered by all of its workers. Each worker
// answers them in order; workers may be apart.
class StepsInFlight {
 public:
  explicit StepsInFlight(uint32_t num_workers) : num_answered_(num_workers, 0) {}

  void Add(StepInFlight step) { steps_.push_back(std::move(step)); }

  // The Step that this result of a worker belongs to, until EndAnswer. INTERNAL when it is not the
  // Step that the worker's last answer leads to expect.
  absl::StatusOr<StepInFlight*> BeginAnswer(uint32_t worker, uint64_t step_id);
  // Whether the worker's answer, which has begun, is the last one of its Step.
  bool IsLastAnswer(uint32_t worker) const;
  // The worker's answer was read. INTERNAL when it was the last of the Step and something that the
  // Step asked for is missing.
  absl::Status EndAnswer(uint32_t worker);

  size_t size() const { return steps_.size(); }

 private:
  std::deque<StepInFlight> steps_;
  std::vector<size_t> num_answered_;  // [workers], of steps_
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_STEPS_IN_FLIGHT_H_
