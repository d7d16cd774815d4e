#ifndef KVEC_KERNELS_CUDA_VALUE_NORMS_H_
#define KVEC_KERNELS_CUDA_VALUE_NORMS_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// norms[num_heads, num_entries]: ‖v‖₂ of the first entries of the batch's first heads.
cudaError_t ValueNorms(cudaStream_t stream, const PagedBatch& batch, int num_heads, int num_entries,
                       const KvPages& kv, float* norms);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_VALUE_NORMS_H_
