#ifndef KVEC_WORKER_COMM_PEER_ADDRESS_H_
#define KVEC_WORKER_COMM_PEER_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvec::worker::comm {

// Where a worker's peers reach it: what Register.comm_address holds.
struct PeerAddress {
  // Workers with the same host_id see each other's shared memory and processes.
  uint64_t host_id = 0;
  // Drawn anew for each address: tells a worker that came back from its former self.
  uint64_t nonce = 0;
  std::string shared_memory = "";  // UCX's address of each; empty: not offered
  std::string tcp = "";

  std::string Encode() const;
};

// INVALID_ARGUMENT for anything but a whole address of this version. The checksum finds what was
// garbled; UCX trusts what it is given, so an address is worth as much as the coordinator's word
// that a worker sent it.
absl::StatusOr<PeerAddress> ParsePeerAddress(absl::string_view bytes);

// How many of a group's members, this process included, are on this host: the readable addresses with
// its HostId. At least 1.
int NumOnThisHost(absl::Span<const std::string> addresses);

// FNV-1a: names groups and hosts, and finds garbled bytes.
uint64_t HashBytes(absl::string_view bytes);

// This process's host as PeerAddress has it: boot, process namespace and /dev/shm.
uint64_t HostId();

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_PEER_ADDRESS_H_
