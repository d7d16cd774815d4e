#ifndef KVEC_WORKER_SERVER_COMM_SLOT_H_
#define KVEC_WORKER_SERVER_COMM_SLOT_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/comm/comm_endpoint.h"
#include "worker/comm/device_comm.h"

namespace kvec::worker::server {

// Holds the endpoint of a worker's next or current group. The executing thread renews it and
// connects; the thread that reads the coordinator's stream aborts, whatever the other one does.
// Each Abort is followed by a Renew before the next group.
class CommSlot {
 public:
  // Without an interface, TCP uses the one that leads to the coordinator.
  // device_comm: null where tensors are in the host's memory; outlives the slot.
  CommSlot(comm::CommEndpoint::Options options, comm::DeviceComm* device_comm)
      : options_(std::move(options)), device_comm_(device_comm) {}

  // Takes a new endpoint. UNAVAILABLE while the coordinator HOST:PORT has no route. Where there
  // can't be an endpoint at all the worker can still be alone: its address is empty.
  absl::Status Renew(const std::string& coordinator);

  std::string address() const;

  // Null for a group of one, which needs no endpoint: it is gone until the next Renew.
  absl::StatusOr<std::unique_ptr<comm::GroupComm>> Connect(const v1::FormGroup& form);

  // Ends Connect and every operation of the communicators it made.
  void Abort();

  // Whether an operation waits for a peer.
  bool is_waiting() const;

 private:
  std::shared_ptr<comm::CommEndpoint> endpoint() const;

  const comm::CommEndpoint::Options options_;
  comm::DeviceComm* const device_comm_;
  mutable absl::Mutex mutex_;
  std::shared_ptr<comm::CommEndpoint> endpoint_ ABSL_GUARDED_BY(mutex_);  // null: can't be
  absl::Status why_none_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_COMM_SLOT_H_
