#include <cuda_runtime.h>

#include "kernels/cuda/convert.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row.
__global__ void __launch_bounds__(kThreads) ToBFloat16Kernel(Tensor x, __nv_bfloat16* out) {
  const float* const from = x.data + blockIdx.x * x.stride;
  __nv_bfloat16* const to = out + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(x.cols);
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    to[i] = __float2bfloat16_rn(from[i]);
  }
}

}  // namespace

cudaError_t ToBFloat16(cudaStream_t stream, Tensor x, __nv_bfloat16* out) {
  return Launch(stream, {static_cast<unsigned>(x.rows), kThreads}, ToBFloat16Kernel, x, out);
}

}  // namespace kvec::kernels::cuda
