#ifndef KVEC_KERNELS_CUDA_ROPE_FREQUENCIES_H_
#define KVEC_KERNELS_CUDA_ROPE_FREQUENCIES_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "kernels/cuda/cuda_buffer.h"

namespace kvec::kernels::cuda {

// The frequencies of a model's few RopeConfigs in the GPU's memory, where they stay once they were
// asked for: each Step needs them.
class RopeFrequencies {
 public:
  // Work of `stream`, which outlives this, may read what Get gives.
  explicit RopeFrequencies(cudaStream_t stream) : stream_(stream) {}

  // [num_pairs] radians per position of every rotated pair. INTERNAL where the config is of another
  // number of pairs, RESOURCE_EXHAUSTED when the memory is not there.
  absl::StatusOr<const double*> Get(const RopeConfig& rope, int num_pairs);

 private:
  struct Entry {
    RopeConfig rope;
    int num_pairs = 0;
    std::unique_ptr<CudaBuffer> buffer;
  };

  const cudaStream_t stream_;
  std::vector<Entry> entries_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_ROPE_FREQUENCIES_H_
