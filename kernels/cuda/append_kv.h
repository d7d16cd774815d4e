#ifndef KVEC_KERNELS_CUDA_APPEND_KV_H_
#define KVEC_KERNELS_CUDA_APPEND_KV_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// Stores k and v of all rows of the batch, and positions[m], as the last entries of their heads'
// pages.
cudaError_t AppendKv(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                     const int32_t* positions, const PagedBatch& batch, const KvPages& kv);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_APPEND_KV_H_
