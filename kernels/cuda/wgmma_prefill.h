#ifndef KVEC_KERNELS_CUDA_WGMMA_PREFILL_H_
#define KVEC_KERNELS_CUDA_WGMMA_PREFILL_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/tensor_prefill.h"

namespace kvec::kernels::cuda {

// TensorPrefill by the products of compute capability 9.0, on which alone it does anything.
cudaError_t WgmmaPrefill(cudaStream_t stream, const AttentionArguments& arguments);

inline bool CanPrefillByWgmma(KvType type, int head_dim) {
  return (type == KvType::kBF16 || type == KvType::kF16) && (head_dim == 64 || head_dim == 128);
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WGMMA_PREFILL_H_
