// Of our own: sums of int8 products are integers, which cuBLASLt does not scale by rows and
// columns.

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/scale_sums.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A thread per number of y. Grid [rows, y.cols / kThreads].
template <typename Sum>
__global__ void __launch_bounds__(kThreads) ScaleSumsKernel(SumsToScale of) {
  const size_t row = blockIdx.x;
  const int col = static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (col >= of.y.cols) return;
  const Sum sum = static_cast<const Sum*>(of.sums)[row * static_cast<size_t>(of.num_cols) + col];
  // x's scale first: of the scales alone the product could be too small.
  float value = static_cast<float>(sum) * of.x_scales[row] * of.weight_scales[col];
  if (of.bias != nullptr) value += of.bias[col];
  float& y = of.y.data[row * static_cast<size_t>(of.y.stride) + col];
  y = of.mode == MatMulMode::kAccumulate ? y + value : value;
}

}  // namespace

cudaError_t ScaleSums(cudaStream_t stream, const SumsToScale& of) {
  const dim3 grid(static_cast<unsigned>(of.y.rows),
                  static_cast<unsigned>(DivideUp(of.y.cols, kThreads)));
  return of.type == WeightType::kInt8
             ? Launch(stream, {grid, kThreads}, ScaleSumsKernel<int32_t>, of)
             : Launch(stream, {grid, kThreads}, ScaleSumsKernel<float>, of);
}

}  // namespace kvec::kernels::cuda
