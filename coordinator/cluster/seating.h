#ifndef KVEC_COORDINATOR_CLUSTER_SEATING_H_
#define KVEC_COORDINATOR_CLUSTER_SEATING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/cluster/placement.h"

namespace kvec::coordinator::cluster {

// A worker that is to be part of a group.
struct SeatCandidate {
  uint64_t id = 0;
  std::string host;
  // Its place in the group before, whose weights it holds: stage · num_ranks + rank.
  std::optional<int> last_seat = std::nullopt;
};

// [num_workers] Who sits where, stage-major. Workers stay where they were; the others sit so that
// the ranks of a stage, which talk most, share a host where that can be. As many candidates as
// seats.
std::vector<uint64_t> SeatWorkers(const ParallelShape& shape,
                                  const std::vector<SeatCandidate>& candidates);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_SEATING_H_
