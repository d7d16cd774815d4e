#ifndef KVEC_WORKER_COMM_COMM_ENDPOINT_H_
#define KVEC_WORKER_COMM_COMM_ENDPOINT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::comm {

class UcxLinks;

// Over what peers are reached: shared memory where they are on the same host and TCP elsewhere, or
// one of them always.
enum class Transport { kAuto, kSharedMemory, kTcp };

// Where this worker's peers reach it, for one group: it has an address before the group is known,
// and makes the group's communicators when it is. Each group takes a new one, since what a broken
// group leaves behind can't be told from messages under way. One thread uses it; Abort and
// is_waiting are for any.
class CommEndpoint {
 public:
  struct Options {
    Transport transport = Transport::kAuto;
    std::string interface = "";                          // to listen on for TCP; empty: no TCP
    absl::Duration timeout = absl::Minutes(2);           // of an operation
    absl::Duration connect_timeout = absl::Minutes(10);  // some member may still be busy
  };

  static absl::StatusOr<std::unique_ptr<CommEndpoint>> Create(const Options& options);

  // Opaque bytes, for the other members' Connect.
  const std::string& address() const { return address_; }

  // This worker's place in a group.
  struct Place {
    uint64_t epoch = 0;
    int stage = 0;
    int num_stages = 1;
    int rank = 0;
    int num_ranks = 1;
    // Whether this worker's tensors are in a device's memory: all members' are, or none's.
    bool has_device_memory = false;
  };

  // Waits until all members have come this far. addresses[num_stages · num_ranks]: stage-major.
  // INVALID_ARGUMENT names the address that can't be one; FAILED_PRECONDITION when a member can't
  // be reached with what both offer, or has another kind of memory; UNAVAILABLE after Abort. Once.
  absl::StatusOr<std::unique_ptr<GroupComm>> Connect(const Place& place,
                                                     absl::Span<const std::string> addresses);

  // Ends Connect, and every operation of its communicators, with UNAVAILABLE. Any thread.
  void Abort();

  // Whether an operation waits for a peer now. Any thread.
  bool is_waiting() const;

 private:
  CommEndpoint(const Options& options, std::shared_ptr<UcxLinks> links, std::string address)
      : options_(options), links_(std::move(links)), address_(std::move(address)) {}

  const Options options_;
  const std::shared_ptr<UcxLinks> links_;
  const std::string address_;
  bool is_connected_ = false;
};

// A group of one: everything is local.
std::unique_ptr<GroupComm> MakeLocalGroupComm();

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_COMM_ENDPOINT_H_
