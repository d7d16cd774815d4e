#ifndef KVEC_COORDINATOR_CLUSTER_WORKER_LINK_H_
#define KVEC_COORDINATOR_CLUSTER_WORKER_LINK_H_

#include "absl/status/status.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// The coordinator's end of a worker's stream. Any thread; no call blocks.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;

  // Queues a message; they arrive in this order. Dropped when the stream is broken or closed: its
  // owner hears of that by itself.
  virtual void Send(v1::CoordinatorMessage message) = 0;

  // Ends the stream with this status; messages that are still queued are dropped. Later calls do
  // nothing.
  virtual void Close(absl::Status status) = 0;
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_WORKER_LINK_H_
