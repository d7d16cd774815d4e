#ifndef KVEC_COORDINATOR_CLUSTER_REPLICA_SET_H_
#define KVEC_COORDINATOR_CLUSTER_REPLICA_SET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/model/model_config.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/cluster/step_tracer.h"
#include "coordinator/cluster/worker_group.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// All workers of a coordinator, and the groups that they make: one for each replica of the model,
// with a scheduler of its own. Forms a group as soon as enough workers are attached, and anew after
// one of its workers is lost; whoever is in no group is a spare for all of them. Without threads
// and without a clock; not thread-safe: StepPump calls it.
class ReplicaSet {
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
    WorkerGroup::Options group;
    // Told when the first group becomes ready and when the last one is lost.
    std::function<void(bool ready)> on_ready_changed = [](bool) {};
  };

  // One scheduler for each replica, or, without options.shape, for as many as there may be at most.
  // They must outlive it.
  ReplicaSet(Options options, const std::vector<scheduler::Scheduler*>& schedulers);

  // A stream was opened; `id`s grow.
  void OnAttach(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now);
  void OnMessage(uint64_t id, const v1::WorkerMessage& message, absl::Time now);
  // The stream is broken, or its worker closed it. Unknown ids are ignored here and above.
  void OnDetach(uint64_t id, absl::Time now);

  // Gives up workers that were silent too long, and forms groups that were put off until now.
  void OnTimeouts(absl::Time now);
  absl::Time NextTimeout() const;

  // Chosen so far; 1 before there is a shape.
  uint32_t num_replicas() const { return shape_.has_value() ? shape_->num_replicas : 1; }
  WorkerGroup& group(size_t replica) { return *groups_[replica]; }
  // The group that the worker is in; null: none.
  WorkerGroup* GroupOf(uint64_t id) const;

  // Of request.replica, with errors as StepTracer::Start; INVALID_ARGUMENT for one that is none.
  absl::Status StartTrace(uint64_t trace_id, const v1::TraceRequest& request, StepTracer::Done done,
                          absl::Time now);
  void CancelTrace(uint64_t trace_id);
  absl::Time NextTraceDeadline() const;
  // Ends those whose deadline is not after `now`.
  void FinishTraces(absl::Time now);
  // As StepTracer::TakeEnded, of all groups.
  std::vector<std::function<void()>> TakeEndedTraces();

  // Closes every stream with UNAVAILABLE.
  void Shutdown(absl::Time now);

  // See Membership::Statuses; with the groups' free pages.
  std::vector<v1::WorkerStatus> Statuses(absl::Time now) const;

 private:
  void Read(Member& member, uint64_t id, const v1::WorkerMessage& message, absl::Time now);
  void OnRegister(uint64_t id, const v1::Register& registration, absl::Time now);
  void OnLeaving(uint64_t id, absl::Time now);
  void OnGroupAborted(uint64_t id, const v1::GroupAborted& aborted, absl::Time now);
  // Closes one worker's stream and forgets it; its group is broken.
  void Drop(uint64_t id, const absl::Status& status, absl::Time now);

  void TryForm(absl::Time now);
  void Form(WorkerGroup& group, const std::vector<uint64_t>& workers);
  // Replicas without a group, those with requests first.
  std::vector<WorkerGroup*> Unformed() const;
  // Spares for a group of shape_; empty: too few, or there is no shape yet.
  std::vector<uint64_t> WorkersForShape() const;
  // Chooses a shape by the workers that are there, and forms groups of them.
  void ChooseShapeAndForm(absl::Time now);
  // When ChooseShapeAndForm is due; never where it is not.
  absl::Time ChooseTime() const;
  void TellReady();

  const Options options_;
  Membership membership_;
  std::vector<std::unique_ptr<WorkerGroup>> groups_;  // by replica
  std::optional<ParallelShape> shape_;                // of the groups, the last or the next ones
  uint64_t last_epoch_ = 0;
  bool told_ready_ = false;
  // Never: the workers that are there don't hold the model.
  absl::Time choose_not_before_ = absl::InfiniteFuture();
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_REPLICA_SET_H_
