#ifndef KVEC_KERNELS_CUDA_WARP_MATH_H_
#define KVEC_KERNELS_CUDA_WARP_MATH_H_

#include <cuda_runtime.h>

#include "kernels/cuda/shared_memory.h"

// Device code only. Every sum has an order of its own that no neighbour changes: a row's bits
// depend on the row.
namespace kvec::kernels::cuda {

inline constexpr int kWarpThreads = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFF;
inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kNegativeInfinity = -__builtin_huge_valf();

// Over the first kWidth lanes around each lane; all of them get the same bits.
template <int kWidth = kWarpThreads>
__device__ __forceinline__ float WarpSum(float value) {
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

template <int kWidth = kWarpThreads>
__device__ __forceinline__ float WarpMax(float value) {
  for (int offset = kWidth / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Over a block of kThreads, for each of them.
template <int kThreads>
__device__ __forceinline__ float BlockSum(float value) {
  constexpr int kWarps = kThreads / kWarpThreads;
  KVEC_SHARED_ARRAY(float, sums, [kWarps]);
  value = WarpSum(value);
  __syncthreads();  // who still reads an earlier sum
  if (threadIdx.x % kWarpThreads == 0) sums[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp];
  return sum;
}

template <int kThreads>
__device__ __forceinline__ float BlockMax(float value) {
  constexpr int kWarps = kThreads / kWarpThreads;
  KVEC_SHARED_ARRAY(float, maxima, [kWarps]);
  value = WarpMax(value);
  __syncthreads();  // who still reads an earlier maximum
  if (threadIdx.x % kWarpThreads == 0) maxima[threadIdx.x / kWarpThreads] = value;
  __syncthreads();
  float max = kNegativeInfinity;
  for (int warp = 0; warp < kWarps; ++warp) max = fmaxf(max, maxima[warp]);
  return max;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WARP_MATH_H_
