#ifndef KVEC_KERNELS_CUDA_APPEND_KV_H_
#define KVEC_KERNELS_CUDA_APPEND_KV_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/kv_pages.h"
#include "kernels/head_rotation.h"

namespace kvec::kernels::cuda {

// Turns the query heads of all rows of the batch in place, and stores the key heads, turned, and
// the value heads of qkv[m, shape.qkv_cols()], and positions[m], as the last entries of their
// heads' pages. head_dim is even and at most 256.
cudaError_t RotateAndAppendKv(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                              const HeadRotation& rotation, const int32_t* positions,
                              const PagedBatch& batch, const KvPages& kv);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_APPEND_KV_H_
