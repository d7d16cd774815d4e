#ifndef KVEC_KERNELS_CUDA_PREFILL_ATTENTION_H_
#define KVEC_KERNELS_CUDA_PREFILL_ATTENTION_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// Attention of the batch's prompt tokens, with heads of up to 256 numbers. Key tiles begin at fixed
// entries, so that a row's bits depend neither on the chunk that it came in nor on its neighbours.
cudaError_t PrefillAttention(cudaStream_t stream, const AttentionArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_PREFILL_ATTENTION_H_
