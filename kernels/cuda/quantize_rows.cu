// Of our own: cuBLASLt multiplies numbers of 8 bits and leaves the rounding to who calls it.

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr float kSmallest = 1e-30f;  // whose reciprocal, times 448, is finite

// `value` is at most kLargest, but for rounding; not a number where its row's scale is infinite.
struct Int8 {
  using Stored = int8_t;
  static constexpr float kLargest = 127;
  static __device__ __forceinline__ Stored Round(float value) {
    return static_cast<Stored>(rintf(fminf(fmaxf(value, -kLargest), kLargest)));
  }
};

struct Fp8 {
  using Stored = __nv_fp8_storage_t;
  static constexpr float kLargest = 448;
  static __device__ __forceinline__ Stored Round(float value) {
    return __nv_cvt_float_to_fp8(fminf(fmaxf(value, -kLargest), kLargest), __NV_SATFINITE,
                                 __NV_E4M3);
  }
};

// A block per row.
template <typename Type>
__global__ void __launch_bounds__(kThreads)
    QuantizeRowsKernel(Tensor x, int num_cols, typename Type::Stored* numbers, float* scales) {
  const float* const from = x.data + blockIdx.x * x.stride;
  typename Type::Stored* const to = numbers + blockIdx.x * static_cast<size_t>(num_cols);
  const int cols = static_cast<int>(blockIdx.x) < x.rows ? x.cols : 0;
  float largest = 0;
  for (int i = static_cast<int>(threadIdx.x); i < cols; i += kThreads) {
    const float magnitude = fabsf(from[i]);
    // fmaxf would pass over what is not a number.
    largest = fmaxf(largest, magnitude == magnitude ? magnitude : -kNegativeInfinity);
  }
  largest = BlockMax<kThreads>(largest);
  const bool is_zero = largest < kSmallest;
  const float inverse = is_zero ? 0.0f : Type::kLargest / largest;
  for (int i = static_cast<int>(threadIdx.x); i < num_cols; i += kThreads) {
    to[i] = Type::Round(i < cols ? from[i] * inverse : 0.0f);
  }
  if (threadIdx.x == 0) scales[blockIdx.x] = is_zero ? 0.0f : largest / Type::kLargest;
}

template <typename Type>
cudaError_t LaunchQuantize(cudaStream_t stream, Tensor x, int num_rows, int num_cols, void* numbers,
                           float* scales) {
  return Launch(stream, {static_cast<unsigned>(num_rows), kThreads}, QuantizeRowsKernel<Type>, x,
                num_cols, static_cast<typename Type::Stored*>(numbers), scales);
}

}  // namespace

cudaError_t QuantizeRows(cudaStream_t stream, Tensor x, WeightType type, int num_rows, int num_cols,
                         void* numbers, float* scales) {
  return type == WeightType::kInt8
             ? LaunchQuantize<Int8>(stream, x, num_rows, num_cols, numbers, scales)
             : LaunchQuantize<Fp8>(stream, x, num_rows, num_cols, numbers, scales);
}

}  // namespace kvec::kernels::cuda
