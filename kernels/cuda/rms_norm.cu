// Of our own: FlashInfer's reads and writes one type of 16 bits; the residual stream is float32,
// and what is written is what the next product takes.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A block per row.
template <typename Number, bool kAdd>
__global__ void __launch_bounds__(kThreads)
    RmsNormKernel(Tensor x, const float* weight, float eps, ProductInput out) {
  const float* const from = x.data + blockIdx.x * x.stride;
  Number* const to = RowOf<Number>(out, static_cast<int>(blockIdx.x));
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    squares += from[i] * from[i];
  }
  const float mean = BlockSum<kThreads>(squares) / static_cast<float>(x.cols);
  const float scale = rsqrtf(mean + eps);
  for (int i = static_cast<int>(threadIdx.x); i < x.cols; i += kThreads) {
    const float normed = from[i] * scale * weight[i];
    to[i] = FromFloat<Number>(kAdd ? ToFloat(to[i]) + normed : normed);
  }
}

}  // namespace

cudaError_t RmsNorm(cudaStream_t stream, Tensor x, const float* weight, float eps,
                    ProductInput out) {
  return WithNumber(out.type, [&](auto number) {
    return Launch(stream, {static_cast<unsigned>(x.rows), kThreads},
                  RmsNormKernel<decltype(number), false>, x, weight, eps, out);
  });
}

cudaError_t AddRmsNorm(cudaStream_t stream, Tensor y, const float* weight, float eps, Tensor x) {
  return Launch(stream, {static_cast<unsigned>(y.rows), kThreads}, RmsNormKernel<float, true>, y,
                weight, eps, ProductInput::Of(x));
}

}  // namespace kvec::kernels::cuda
