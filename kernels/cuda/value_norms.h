#ifndef KVEC_KERNELS_CUDA_VALUE_NORMS_H_
#define KVEC_KERNELS_CUDA_VALUE_NORMS_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// norms[num_heads, stride]: ‖v‖₂ of the entries of the batch's first heads, of which none has more
// than `stride`.
cudaError_t ValueNorms(cudaStream_t stream, const PagedBatch& batch, int num_heads, int stride,
                       const KvPages& kv, float* norms);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_VALUE_NORMS_H_
