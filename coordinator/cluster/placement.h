#ifndef KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_
#define KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model/model_config.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// How a group divides the model: stages hold layers, the ranks of a stage share each layer's heads.
struct ParallelShape {
  int num_ranks = 1;   // tensor parallel
  int num_stages = 1;  // pipeline parallel

  int num_workers() const { return num_ranks * num_stages; }
};

// "tp=2,pp=4"; either part may be missing. INVALID_ARGUMENT names what could not be read.
absl::StatusOr<ParallelShape> ParseParallelShape(absl::string_view text);

// INVALID_ARGUMENT when the model has too few layers or heads to be divided like this.
absl::Status CheckParallelShape(const ParallelShape& shape, const ModelConfig& config);

// [num_stages · num_ranks], stage-major. Layers are contiguous; the first stages take one more
// where they do not divide evenly. The shape has passed CheckParallelShape.
std::vector<v1::Placement> PlaceWorkers(const ParallelShape& shape, int num_layers);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_
