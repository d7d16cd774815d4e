#ifndef KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_GROUP_H_
#define KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_GROUP_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/fake_worker.h"

namespace kvec::coordinator::scheduler {

// A group of workers between which and the scheduler messages travel: Steps wait at each worker
// until it executes them, and results until they are delivered, each worker at its own pace.
class FakeGroup {
 public:
  FakeGroup(uint64_t epoch, const std::vector<WorkerCapacity>& capacities) : epoch_(epoch) {
    for (size_t w = 0; w < capacities.size(); ++w) {
      workers_.push_back({FakeWorker(capacities[w], w + 1 == capacities.size()), {}, {}});
    }
  }

  void Send(const v1::Step& step) {
    for (Worker& worker : workers_) worker.steps.push_back(step);
  }

  bool CanExecute(uint32_t w) const { return !workers_[w].steps.empty(); }
  bool CanDeliver(uint32_t w) const { return !workers_[w].results.empty(); }

  // The worker executes its next Step.
  absl::Status Execute(uint32_t w) {
    Worker& at = workers_[w];
    absl::StatusOr<v1::StepResult> result = at.worker.Execute(at.steps.front());
    at.steps.pop_front();
    if (result.ok()) at.results.push_back(*std::move(result));
    return result.status();
  }

  v1::StepResult TakeResult(uint32_t w) {
    v1::StepResult result = std::move(workers_[w].results.front());
    workers_[w].results.pop_front();
    return result;
  }

  uint64_t epoch() const { return epoch_; }
  uint32_t size() const { return static_cast<uint32_t>(workers_.size()); }
  const FakeWorker& worker(uint32_t w) const { return workers_[w].worker; }

 private:
  struct Worker {
    FakeWorker worker;
    std::deque<v1::Step> steps;
    std::deque<v1::StepResult> results;
  };

  const uint64_t epoch_;
  std::vector<Worker> workers_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_GROUP_H_
