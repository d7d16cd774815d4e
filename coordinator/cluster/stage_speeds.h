#ifndef KVEC_COORDINATOR_CLUSTER_STAGE_SPEEDS_H_
#define KVEC_COORDINATOR_CLUSTER_STAGE_SPEEDS_H_

#include <vector>

#include "absl/types/span.h"
#include "coordinator/cluster/placement.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// [num_stages] How fast each stage reads weights beside the fastest one, 0 to 1: as its slowest
// rank, by what the workers measured when they started. `workers`: [num_stages · num_ranks],
// stage-major.
//
// Workers measure in a few hundredths of a second on machines that do other things: those of one
// host with the same device and number of threads count as the best of them, and stages that differ
// by less than a quarter as equal. Where some worker told nothing, all are equal.
std::vector<double> StageSpeeds(const ParallelShape& shape,
                                absl::Span<const v1::Register* const> workers);

// Whether every worker has the memory for its stage's share of the weights twice: what is left is
// for the cache. A worker that told no memory has it.
bool WeightsFit(const ParallelShape& shape, const ModelBytes& bytes,
                absl::Span<const v1::Placement> placements,
                absl::Span<const v1::Register* const> workers);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_STAGE_SPEEDS_H_
