#ifndef KVEC_KERNELS_CUDA_ROTATE_HEAD_H_
#define KVEC_KERNELS_CUDA_ROTATE_HEAD_H_

#include <cuda_runtime.h>

#include "kernels/cuda/warp_math.h"
#include "kernels/head_rotation.h"

// Device code only.
namespace kvec::kernels::cuda {

inline constexpr int kMaxPairsPerLane = 4;  // of 256 / 2 pairs of a head, a lane's

// Where the two numbers of a pair lie in a head.
struct Pair {
  int first;
  int second;
};

template <RopePairing kPairing>
__device__ __forceinline__ Pair PairAt(int index, int half) {
  if (kPairing == RopePairing::kHalves) return {index, index + half};
  return {2 * index, 2 * index + 1};
}

// to[head_dim] = a row's head, normed where `weight` is not null and turned by the row's cosines
// and sines, [head_dim]; `to` may be `from`. By one warp.
template <RopePairing kPairing>
__device__ __forceinline__ void RotateHead(const float* from, int head_dim, const float* weight,
                                           float eps, const float* cosines, float* to) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int half = head_dim / 2;
  float2 values[kMaxPairsPerLane];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPairsPerLane; ++i) {
    if (lane + i * kWarpThreads >= half) continue;
    const Pair pair = PairAt<kPairing>(lane + i * kWarpThreads, half);
    values[i] = {from[pair.first], from[pair.second]};
    squares += values[i].x * values[i].x + values[i].y * values[i].y;
  }
  float scale = 1;
  if (weight != nullptr) {
    scale = rsqrtf(WarpSum(squares) / static_cast<float>(head_dim) + eps);
  }
#pragma unroll
  for (int i = 0; i < kMaxPairsPerLane; ++i) {
    const int place = lane + i * kWarpThreads;
    if (place >= half) continue;
    const Pair pair = PairAt<kPairing>(place, half);
    float2 value = values[i];
    if (weight != nullptr) {
      value = {value.x * scale * weight[pair.first], value.y * scale * weight[pair.second]};
    }
    const float cosine = cosines[place];
    const float sine = cosines[half + place];
    to[pair.first] = value.x * cosine - value.y * sine;
    to[pair.second] = value.y * cosine + value.x * sine;
  }
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_ROTATE_HEAD_H_
