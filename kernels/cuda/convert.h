#ifndef KVEC_KERNELS_CUDA_CONVERT_H_
#define KVEC_KERNELS_CUDA_CONVERT_H_

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// out[m, n] = x[m, n], rounded to nearest; out_stride numbers from row to row.
cudaError_t ToBFloat16(cudaStream_t stream, Tensor x, __nv_bfloat16* out, int64_t out_stride);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CONVERT_H_
