#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row.
template <bool kAdd>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(Tensor x, const float* weight, float eps, Tensor out) {
  const float* const from = x.data + blockIdx.x * x.stride;
  float* const to = out.data + blockIdx.x * out.stride;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    squares += from[i] * from[i];
  }
  const float mean = BlockSum<kThreads>(squares) / static_cast<float>(x.cols);
  const float scale = rsqrtf(mean + eps);
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    const float normed = from[i] * scale * weight[i];
    to[i] = kAdd ? to[i] + normed : normed;
  }
}

}  // namespace

cudaError_t RmsNorm(cudaStream_t stream, Tensor x, const float* weight, float eps, Tensor out) {
  return Launch(stream, {static_cast<unsigned>(x.rows), kThreads}, RmsNormKernel<false>, x, weight,
                eps, out);
}

cudaError_t AddRmsNorm(cudaStream_t stream, Tensor y, const float* weight, float eps, Tensor x) {
  return Launch(stream, {static_cast<unsigned>(y.rows), kThreads}, RmsNormKernel<true>, y, weight,
                eps, x);
}

}  // namespace kvec::kernels::cuda
