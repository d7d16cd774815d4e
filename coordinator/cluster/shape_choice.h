#ifndef KVEC_COORDINATOR_CLUSTER_SHAPE_CHOICE_H_
#define KVEC_COORDINATOR_CLUSTER_SHAPE_CHOICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "coordinator/cluster/placement.h"

namespace kvec::coordinator::cluster {

// A worker that could be part of a group.
struct AvailableWorker {
  uint64_t id = 0;
  std::string host;
  uint64_t memory_bytes = 0;   // for weights and arena
  bool shares_memory = false;  // with the other workers of its host: it has no device of its own
};

struct ShapeChoice {
  ParallelShape shape;
  std::vector<uint64_t> workers;  // [num_replicas * num_workers] ids
};

// The smallest group of these workers that holds the model: the weights in half of their memory,
// and the cache by which stages are balanced in the other half. Ranks of a stage, which talk most,
// are on one host; of equally small groups the one with most ranks is chosen, which answers
// soonest. And as many groups as the others make, at most max_replicas.
// RESOURCE_EXHAUSTED when all together are too small.
absl::StatusOr<ShapeChoice> ChooseShape(const std::vector<AvailableWorker>& workers,
                                        const ModelConfig& config, const ModelBytes& bytes,
                                        int max_replicas);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_SHAPE_CHOICE_H_
