// Of our own: cuBLASLt wants inputs rounded, and rows of ours may lie apart.

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/convert.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row.
__global__ void __launch_bounds__(kThreads)
    ToBFloat16Kernel(Tensor x, __nv_bfloat16* out, int64_t out_stride) {
  const float* const from = x.data + blockIdx.x * x.stride;
  __nv_bfloat16* const to = out + blockIdx.x * out_stride;
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    to[i] = __float2bfloat16_rn(from[i]);
  }
}

}  // namespace

cudaError_t ToBFloat16(cudaStream_t stream, Tensor x, __nv_bfloat16* out, int64_t out_stride) {
  return Launch(stream, {static_cast<unsigned>(x.rows), kThreads}, ToBFloat16Kernel, x, out,
                out_stride);
}

}  // namespace kvec::kernels::cuda
