#ifndef KVEC_COORDINATOR_CLUSTER_WORKER_STREAM_H_
#define KVEC_COORDINATOR_CLUSTER_WORKER_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "coordinator/cluster/step_pump.h"
#include "coordinator/cluster/worker_link.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// One Attach call. Owns itself from Start until gRPC is done with it; the WorkerGroup shares it as
// a WorkerLink. gRPC allows one write at a time, so messages wait in a queue for OnWriteDone.
class WorkerStream final
    : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>,
      public WorkerLink,
      public std::enable_shared_from_this<WorkerStream> {
 public:
  // `pump` must outlive the stream: the server is shut down before the pump is destroyed.
  explicit WorkerStream(StepPump& pump) : pump_(pump) {}

  // Attaches to the pump and begins to read.
  void Start();

  void Send(v1::CoordinatorMessage message) override;
  void Close(absl::Status status) override;

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  // Starts the next write, or finishes the call, unless a write is under way. Called without the
  // lock: whoever sets writing_ or finished_ is the only one to call gRPC.
  void Advance();

  StepPump& pump_;
  uint64_t id_ = 0;
  std::shared_ptr<WorkerStream> self_;
  v1::WorkerMessage incoming_;
  v1::CoordinatorMessage outgoing_;  // being written

  std::mutex mutex_;
  std::deque<v1::CoordinatorMessage> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_WORKER_STREAM_H_
