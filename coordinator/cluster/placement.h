#ifndef KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_
#define KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "common/model/model_files.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// How a group divides the model: stages hold layers, the ranks of a stage share each layer's heads.
// And how many groups there are, each with a whole model.
struct ParallelShape {
  int num_ranks = 1;     // tensor parallel
  int num_stages = 1;    // pipeline parallel
  int num_replicas = 1;  // data parallel

  // Of one replica.
  int num_workers() const { return num_ranks * num_stages; }
};

// "dp=2,tp=2,pp=4"; parts may be missing. INVALID_ARGUMENT names what could not be read.
absl::StatusOr<ParallelShape> ParseParallelShape(absl::string_view text);

// As ParseParallelShape reads it.
std::string ParallelShapeText(const ParallelShape& shape);

// INVALID_ARGUMENT when the model has too few layers or heads to be divided like this: every rank
// has a query head, but not all need have equally many, nor a KV head of their own.
absl::Status CheckParallelShape(const ParallelShape& shape, const ModelConfig& config);

// How large the parts are that placement divides.
struct ModelBytes {
  std::vector<uint64_t> layers;  // [num_layers]
  uint64_t embedding = 0;        // with the first layer
  uint64_t head = 0;             // with the last one; a tied one is the embedding, once more
  // [num_layers] Keys and values that a Step of kBalancedSequences of kBalancedDepth tokens reads.
  std::vector<uint64_t> cache;
};

// The Step of decode by which stages are balanced. The fewer tokens are cached, the more of its
// time goes to the head.
inline constexpr uint64_t kBalancedSequences = 8;
inline constexpr uint64_t kBalancedDepth = 2048;

struct TensorBytes {
  std::string name;  // GGUF's
  uint64_t bytes = 0;
};

// Of these tensors, which are all that the model has.
ModelBytes MeasureModelBytes(const ModelConfig& config, absl::Span<const TensorBytes> tensors);
ModelBytes MeasureModelBytes(const ModelFiles& files);

// [num_stages · num_ranks], stage-major. Layers are contiguous, and the stages as equal as they can
// be in how long they take in a Step of decode: what they read, weights and cache of their layers
// and the last one's head, by how fast they read. (The embedding is looked up, row by row.)
// stage_speeds: [num_stages], in any unit; empty: all alike. The shape has passed
// CheckParallelShape.
std::vector<v1::Placement> PlaceWorkers(const ParallelShape& shape, const ModelBytes& bytes,
                                        absl::Span<const double> stage_speeds = {});

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_PLACEMENT_H_
