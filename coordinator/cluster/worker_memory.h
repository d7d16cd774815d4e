#ifndef KVEC_COORDINATOR_CLUSTER_WORKER_MEMORY_H_
#define KVEC_COORDINATOR_CLUSTER_WORKER_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/model/rank_share.h"
#include "common/tensor/tensor_type.h"
#include "coordinator/cluster/model_outline.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::cluster {

// How a device holds weight matrices.
enum class HeldWeights : uint8_t {
  kBF16,  // like int8 and fp8 the CUDA device's --cuda-weights, whatever the files have
  kInt8,
  kFp8,
  kQ4,      // blocks of 4 bits: no device yet
  kInFiles  // as the files have them
};

// The worker's --kv-type.
enum class HeldKv : uint8_t { kF16, kBF16, kF32, kInt8 };

// How workers run a model, as far as their memory goes.
struct MemoryOptions {
  uint64_t gpu_bytes = 0;  // of each worker's GPU
  HeldWeights weights = HeldWeights::kBF16;
  HeldKv kv_type = HeldKv::kF16;
  uint32_t step_tokens = 512;   // rows of a Step
  uint32_t context_tokens = 0;  // of a request: prompt and answer
  // What the CUDA context, libraries and NCCL take, and what fragments: an estimate.
  uint64_t reserve_bytes = uint64_t{3} << 29;
};

// The memory of one worker's GPU. Everything but the reserve follows from the sizes with which
// worker/model and kernels/cuda allocate.
struct WorkerMemory {
  v1::Placement placement;
  RankShare share;
  uint64_t weight_bytes = 0;
  uint64_t activation_bytes = 0;  // of a Step, with logits
  uint64_t workspace_bytes = 0;   // of operations, and the queries that evictions score by
  uint64_t reserve_bytes = 0;
  // What is left; 0 pages when nothing is.
  uint64_t num_pages = 0;    // of 16 tokens of one KV head of one layer
  uint64_t page_bytes = 0;   // keys and values
  uint64_t arena_bytes = 0;  // with the entries' positions

  uint64_t kv_bytes() const { return num_pages * page_bytes; }  // --kv-bytes
  uint64_t bytes_beside_arena() const {
    return weight_bytes + activation_bytes + workspace_bytes + reserve_bytes;
  }
};

// Of matrices that a model's files don't have.
TensorType MissingWeightType(HeldWeights weights);

// INVALID_ARGUMENT when the placement has no such rank.
absl::StatusOr<WorkerMemory> MeasureWorker(const ModelOutline& outline,
                                           const v1::Placement& placement,
                                           const MemoryOptions& options);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_WORKER_MEMORY_H_
