#ifndef KVEC_TESTS_COORDINATOR_CLUSTER_RECORDING_SCHEDULER_H_
#define KVEC_TESTS_COORDINATOR_CLUSTER_RECORDING_SCHEDULER_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace kvec::coordinator::cluster {

// A scheduler without requests that notes what it is told.
class RecordingScheduler : public scheduler::Scheduler {
 public:
  struct Group {
    uint64_t epoch = 0;
    std::vector<scheduler::WorkerCapacity> workers;
  };

  absl::Status Submit(scheduler::Request, absl::Time) override { return absl::OkStatus(); }
  void Cancel(absl::string_view, absl::Status, absl::Time) override {}
  void OnGroupReady(uint64_t epoch, std::vector<scheduler::WorkerCapacity> workers,
                    absl::Time) override {
    group = Group{epoch, std::move(workers)};
  }
  void HoldStarts() override { holds_starts = true; }
  Readiness readiness() const override {
    return group.has_value() ? Readiness::kServing : Readiness::kNoGroup;
  }
  bool Knows(absl::string_view, absl::string_view) const override { return false; }
  uint32_t CountCachedTokens(absl::Span<const int32_t>) const override { return 0; }
  bool HasSession(absl::string_view) const override { return false; }
  void OnGroupLost(absl::Time) override {
    group.reset();
    ++num_lost;
  }
  std::optional<v1::Step> NextStep(absl::Time) override { return std::nullopt; }
  absl::Status OnStepResult(uint32_t worker, const v1::StepResult&, absl::Time) override {
    result_workers.push_back(worker);
    return result_status;
  }
  absl::Time NextDeadline() const override { return absl::InfiniteFuture(); }
  void ExpireDeadlines(absl::Time) override {}
  absl::Status Subscribe(const std::shared_ptr<scheduler::PrefixFeed>&) override {
    return absl::OkStatus();
  }
  scheduler::SchedulerCounts counts() const override { return current_counts; }
  std::vector<v1::RequestStatus> RequestStatuses(uint32_t, absl::Time) const override { return {}; }
  std::vector<uint64_t> free_pages() const override {
    return group.has_value() ? std::vector<uint64_t>(group->workers.size(), 7)
                             : std::vector<uint64_t>();
  }
  std::vector<uint64_t> cached_pages() const override {
    return group.has_value() ? std::vector<uint64_t>(group->workers.size(), 2)
                             : std::vector<uint64_t>();
  }

  std::optional<Group> group;
  int num_lost = 0;
  bool holds_starts = false;
  scheduler::SchedulerCounts current_counts;
  std::vector<uint32_t> result_workers;
  absl::Status result_status;
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_TESTS_COORDINATOR_CLUSTER_RECORDING_SCHEDULER_H_
