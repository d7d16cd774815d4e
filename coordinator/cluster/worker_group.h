#ifndef KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_
#define KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/model/model_config.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/cluster/step_tracer.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// Forms a group as soon as enough workers are attached, carries messages between it and the
// scheduler, and forms it anew after a worker is lost. A state machine without threads and without
// a clock; not thread-safe: StepPump calls it.
//
//   no group ──enough attached──▶ loading ──GroupReady from all──▶ ready
//      ▲                             │                               │
//      └──── stream broken, WorkerError, no heartbeat, bad result ───┘
//
// Workers of a broken group can be part of the next one when they have answered AbortGroup.
class WorkerGroup {
 public:
  struct Options {
    Membership::Options membership;
    // None: the attached workers decide, see ChooseShape.
    std::optional<ParallelShape> shape = ParallelShape();
    // Without a shape: how long others are waited for after a worker has attached, and how long
    // after a group was lost another shape is not thought of: its weights would all be read anew.
    absl::Duration attach_patience = absl::Seconds(2);
    absl::Duration shape_patience = absl::Seconds(30);
    ModelConfig model;
    std::vector<uint32_t> sliding_windows;  // [num_layers], 0: full attention
    ModelBytes model_bytes;
    std::string sentence_end_bits;
    uint32_t step_tokens = 0;  // every worker must be able to run a Step of so many rows
    // Told whenever a group becomes ready and whenever it is lost.
    std::function<void(bool ready)> on_ready_changed = [](bool) {};
    // Told of every result that was good, by the caller of OnMessage; must not block.
    std::function<void(const v1::StepResult&)> on_step_result = [](const v1::StepResult&) {};
  };

  // `scheduler` must outlive it.
  WorkerGroup(Options options, scheduler::Scheduler& scheduler)
      : options_(std::move(options)),
        scheduler_(scheduler),
        membership_(options_.membership),
        shape_(options_.shape) {}

  // A stream was opened; `id`s grow.
  void OnAttach(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now);
  void OnMessage(uint64_t id, const v1::WorkerMessage& message, absl::Time now);
  // The stream is broken, or its worker closed it. Unknown ids are ignored here and above.
  void OnDetach(uint64_t id, absl::Time now);

  // Gives up workers that were silent too long, and forms a group when one was put off until now.
  void OnTimeouts(absl::Time now);
  absl::Time NextTimeout() const;

  // To every worker of the group; dropped when the Step's epoch is not the group's.
  void SendStep(const v1::Step& step);

  StepTracer& tracer() { return tracer_; }
  // Adds a result that OnMessage has just taken to the trace; see StepTracer::OnResult.
  void TraceResult(uint64_t id, const v1::StepResult& result, absl::Time begin, absl::Time now);

  // Closes every stream with UNAVAILABLE.
  void Shutdown(absl::Time now);

  // See Membership::Statuses; with the group's free pages.
  std::vector<v1::WorkerStatus> Statuses(absl::Time now) const;

 private:
  void OnRegister(uint64_t id, const v1::Register& registration, absl::Time now);
  void OnGroupReady(uint64_t id, const v1::GroupReady& ready, absl::Time now);
  void OnStepResult(uint64_t id, const v1::StepResult& result, absl::Time now);
  void OnWorkerError(uint64_t id, const v1::WorkerError& error, absl::Time now);
  void OnLeaving(uint64_t id, absl::Time now);
  void OnGroupAborted(uint64_t id, const v1::GroupAborted& aborted, absl::Time now);

  // Closes the streams of the group's workers that leave, which breaks it, unless requests are
  // running that would have to wait for others.
  void LetLeaversGo(absl::Time now);
  void LetGo(Member& member);
  void TryForm(absl::Time now);
  // Spares that fill a group, by their places in it; empty: too few. Sets shape_.
  std::vector<uint64_t> ChooseWorkers(absl::Time now);
  // The longest attached spares for shape_; empty: too few, or there is no shape yet.
  std::vector<uint64_t> WorkersForShape() const;
  // As ChooseWorkers, without places, of a group whose shape is to be chosen.
  std::vector<uint64_t> ChooseShapeAndWorkers(absl::Time now);
  // Drops the group and has its remaining workers abort it.
  void Break(absl::string_view reason, absl::Time now);
  // Breaks the group for an error that its workers may run into again: waits before the next one.
  void BreakAndPutOff(absl::string_view reason, absl::Time now);
  // Closes one worker's stream and forgets it; its group is broken.
  void Drop(uint64_t id, const absl::Status& status, absl::Time now);

  bool InGroup(uint64_t id) const;
  // The worker's place in the group, which it is in.
  uint32_t IndexOf(uint64_t id) const;
  scheduler::WorkerCapacity CapacityOf(const Member& member) const;
  std::vector<v1::TraceRow> TraceRows();

  const Options options_;
  scheduler::Scheduler& scheduler_;
  Membership membership_;
  StepTracer tracer_;
  std::optional<ParallelShape> shape_;  // of the group, the last or the next one
  std::vector<uint64_t> group_;         // stage-major; empty: no group
  uint64_t epoch_ = 0;                  // of the current or last group
  bool ready_ = false;
  int failures_in_a_row_ = 0;  // since the last good StepResult
  absl::Time form_not_before_ = absl::InfinitePast();
  // Without options_.shape: when another shape may be chosen. Never: not of these workers.
  absl::Time choose_not_before_ = absl::InfiniteFuture();
  absl::Time keep_shape_until_ = absl::InfinitePast();
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_WORKER_GROUP_H_
