#ifndef KVEC_COORDINATOR_CLUSTER_STEP_PUMP_H_
#define KVEC_COORDINATOR_CLUSTER_STEP_PUMP_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/cluster/replica_set.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/scheduler/scheduler.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// The coordinator's one thread of control: hands what the workers' streams received to the
// ReplicaSet and sends the Steps that the replicas' schedulers compose. Streams and calls only
// queue events here, so no gRPC thread waits for the scheduler. Sleeps until an event, a Wake, or a
// deadline.
class StepPump {
 public:
  // As ReplicaSet.
  StepPump(ReplicaSet::Options options, std::vector<scheduler::Scheduler*> schedulers,
           std::function<absl::Time()> now = absl::Now);
  ~StepPump() { Stop(); }

  void Start();
  // Closes the workers' streams and ends the thread; a stream that is attached later is closed too.
  void Stop();

  // A scheduler has new work, or a request of it was cancelled.
  void Wake();

  // A worker's stream, from any thread. Attach gives the id for the other two.
  uint64_t Attach(const std::shared_ptr<WorkerLink>& link);
  void Deliver(uint64_t id, v1::WorkerMessage message);
  void Detach(uint64_t id);

  // Traces the next Steps, with errors as StepTracer::Start. `done` is called from the pump's
  // thread, with no lock held, unless the trace is cancelled before; it may be under way meanwhile.
  absl::StatusOr<uint64_t> StartTrace(const v1::TraceRequest& request, StepTracer::Done done);
  void CancelTrace(uint64_t id);

  // That the thread has made: after a Wake there is one more, unless the thread hangs.
  uint64_t num_turns() const { return num_turns_; }

  // Some replica's.
  bool group_ready() const { return group_ready_; }
  // See ReplicaSet.
  uint32_t num_replicas() const { return num_replicas_; }
  std::vector<v1::WorkerStatus> WorkerStatuses() const;

 private:
  struct Event {
    uint64_t id = 0;
    std::shared_ptr<WorkerLink> attached;      // a new stream,
    std::optional<v1::WorkerMessage> message;  // what it received, or, with neither, its end
  };

  void Post(Event event);
  void Run();
  // Sleeps until there is an event, a Wake, a Stop, or it is `due`; holds the queue's lock.
  void AwaitWork(std::unique_lock<std::mutex>& lock, absl::Time due);
  // One turn: events, deadlines, Steps. Returns when the next one is due without an event.
  absl::Time Turn(std::vector<Event> events);
  void Handle(Event event, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_mutex_);
  void SendSteps(size_t replica, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(group_mutex_);
  void EndTraces();
  // The last turn: closes every stream.
  void ShutDown(std::vector<Event> events);

  const std::vector<scheduler::Scheduler*> schedulers_;  // by replica
  const std::function<absl::Time()> now_;
  std::atomic<bool> group_ready_ = false;
  std::atomic<uint32_t> num_replicas_ = 1;
  std::atomic<uint64_t> num_turns_ = 0;

  // std::mutex: ThreadSanitizer can't see into the packaged absl::Mutex.
  mutable std::mutex group_mutex_;  // taken before the schedulers' own
  ReplicaSet replicas_ ABSL_GUARDED_BY(group_mutex_);
  uint64_t last_trace_id_ ABSL_GUARDED_BY(group_mutex_) = 0;
  std::vector<absl::Time> next_samples_ ABSL_GUARDED_BY(group_mutex_);  // by replica

  std::mutex queue_mutex_;
  std::condition_variable wake_;
  std::vector<Event> events_ ABSL_GUARDED_BY(queue_mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(queue_mutex_) = 1;
  bool woken_ ABSL_GUARDED_BY(queue_mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(queue_mutex_) = false;

  std::thread thread_;
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_STEP_PUMP_H_
