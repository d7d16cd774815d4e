#ifndef KVEC_KERNELS_CUDA_WGMMA_CHECK_H_
#define KVEC_KERNELS_CUDA_WGMMA_CHECK_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "kernels/kv_arena.h"

namespace kvec::kernels::cuda {

// Runs prefill attention by wgmma and by mma.sync on a small problem, and waits for it. INTERNAL
// when their results differ by more than rounding, or when a kernel fails, after which the GPU may
// be of no use to the process. CanPrefillByWgmma(type, head_dim).
absl::Status CheckWgmma(cudaStream_t stream, KvType type, int head_dim);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WGMMA_CHECK_H_
