#ifndef KVEC_KERNELS_CUDA_TENSOR_PREFILL_H_
#define KVEC_KERNELS_CUDA_TENSOR_PREFILL_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// PrefillAttention on tensor cores: queries and weights are rounded to the arena's type, sums are
// float32.
cudaError_t TensorPrefill(cudaStream_t stream, const AttentionArguments& arguments);

inline constexpr int kMaxTensorGroup = 64;  // rows of a token that fit into every block

// Arenas of 16 bits, and heads of whole tiles of 16 numbers.
inline bool CanPrefillOnTensorCores(const AttentionArguments& arguments) {
  const KvType type = arguments.kv.type;
  return (type == KvType::kBF16 || type == KvType::kF16) && arguments.shape.head_dim % 16 == 0 &&
         arguments.shape.group_size <= kMaxTensorGroup;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_TENSOR_PREFILL_H_
