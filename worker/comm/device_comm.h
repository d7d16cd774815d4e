#ifndef KVEC_WORKER_COMM_DEVICE_COMM_H_
#define KVEC_WORKER_COMM_DEVICE_COMM_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::comm {

// Makes a group's communicators over the tensors of a device that has a memory of its own. One for
// a device's whole life. One thread uses it; Abort and is_waiting are for any.
class DeviceComm {
 public:
  virtual ~DeviceComm() = default;

  struct Timeouts {
    absl::Duration connect = absl::Minutes(10);
    absl::Duration operation = absl::Minutes(2);
  };

  // Adds device_ranks and device_group. All members call it: they agree over ranks and group.
  // FAILED_PRECONDITION when there is no such library; UNAVAILABLE after Abort.
  virtual absl::Status Connect(const Timeouts& timeouts, GroupComm& comm) = 0;

  // Ends Connect, and every operation of the communicators it made; until Renew.
  virtual void Abort() = 0;
  virtual void Renew() = 0;

  // Whether something was queued that may wait for a peer.
  virtual bool is_waiting() const = 0;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_DEVICE_COMM_H_
