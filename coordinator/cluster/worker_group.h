#ifndef KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_
#define KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/cluster/step_tracer.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// The workers of one replica, and what they and the replica's scheduler tell each other. A state
// machine without threads and without a clock; not thread-safe: ReplicaSet chooses the workers and
// hands on what they say.
//
//   no group ──Form──▶ loading ──GroupReady from all──▶ ready
//      ▲                  │                               │
//      └─ stream broken, WorkerError, no heartbeat, bad result ─┘
//
// Workers of a broken group can be part of another one when they have answered AbortGroup.
class WorkerGroup {
 public:
  struct Options {
    std::vector<uint32_t> sliding_windows;  // [num_layers], 0: full attention
    ModelBytes model_bytes;
    std::string sentence_end_bits;
    uint32_t step_tokens = 0;  // every worker must be able to run a Step of so many rows
    // Told of every result that was good, by the caller of OnStepResult; must not block.
    std::function<void(const v1::StepResult&)> on_step_result = [](const v1::StepResult&) {};
  };

  // The others must outlive it.
  WorkerGroup(uint32_t replica, const Options& options, Membership& membership,
              scheduler::Scheduler& scheduler)
      : replica_(replica), options_(options), membership_(membership), scheduler_(scheduler) {}

  bool is_formed() const { return !workers_.empty(); }
  bool is_ready() const { return ready_; }
  bool Contains(uint64_t id) const;
  // Whether somebody waits for this replica's group.
  bool has_requests() const;
  // When the last group was lost.
  absl::Time lost_at() const { return lost_at_; }
  // After an error that its workers may run into again.
  absl::Time form_not_before() const { return form_not_before_; }

  // Spares become the group; stage-major. Epochs of a coordinator's groups grow.
  void Form(uint64_t epoch, const ParallelShape& shape, std::vector<uint64_t> workers);

  // What a worker of the group says. An error of the first one is a reason to drop the worker.
  absl::Status OnGroupReady(uint64_t id, const v1::GroupReady& ready, absl::Time now);
  void OnStepResult(uint64_t id, const v1::StepResult& result, absl::Time now);
  void OnWorkerError(uint64_t id, const v1::WorkerError& error, absl::Time now);

  // Closes the streams of its workers that leave, which breaks it, unless requests are running that
  // would have to wait for others. Returns whether it did.
  bool LetLeaversGo(absl::Time now);

  // Gives the group up and has its remaining workers abort it.
  void Break(absl::string_view reason, absl::Time now);

  // To every worker; dropped when the Step's epoch is not the group's.
  void SendStep(const v1::Step& step);

  StepTracer& tracer() { return tracer_; }
  const StepTracer& tracer() const { return tracer_; }
  // Adds a result that OnStepResult has just taken to the trace; see StepTracer::OnResult.
  void TraceResult(uint64_t id, const v1::StepResult& result, absl::Time begin, absl::Time now);

  // The free and cached pages of its ready workers.
  void AddPages(absl::Span<v1::WorkerStatus*> statuses) const;

 private:
  // Breaks the group for an error that its workers may run into again: waits before the next one.
  void BreakAndPutOff(absl::string_view reason, absl::Time now);

  // The worker's place in the group, which it is in.
  uint32_t IndexOf(uint64_t id) const;
  scheduler::WorkerCapacity CapacityOf(const Member& member) const;
  std::vector<v1::TraceRow> TraceRows();

  const uint32_t replica_;
  const Options& options_;
  Membership& membership_;
  scheduler::Scheduler& scheduler_;
  StepTracer tracer_;
  std::vector<uint64_t> workers_;  // stage-major; empty: no group
  uint32_t num_ranks_ = 1;         // of the current or last group
  uint64_t epoch_ = 0;             // of the current or last group
  bool ready_ = false;
  int failures_in_a_row_ = 0;  // since the last good StepResult
  absl::Time lost_at_ = absl::InfinitePast();
  absl::Time form_not_before_ = absl::InfinitePast();
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_
