#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kAngleThreads = 128;
constexpr int kWarps = 4;
constexpr int kMaxPairsPerLane = 4;  // of 256 / 2 pairs of a head, a lane's

__global__ void __launch_bounds__(kAngleThreads)
    RopeAnglesKernel(const int32_t* positions, const double* frequencies, Tensor out) {
  const int half = out.cols / 2;
  float* const cosines = out.data + blockIdx.x * out.stride;
  for (int i = static_cast<int>(threadIdx.x); i < half; i += kAngleThreads) {
    const double angle = positions[blockIdx.x] * frequencies[i];
    cosines[i] = static_cast<float>(cos(angle));
    cosines[half + i] = static_cast<float>(sin(angle));
  }
}

// Where the two numbers of a pair lie in a head.
struct Pair {
  int first;
  int second;
};

template <RopePairing kPairing>
__device__ Pair PairAt(int index, int half) {
  if (kPairing == RopePairing::kHalves) return {index, index + half};
  return {2 * index, 2 * index + 1};
}

// A warp per head of a row: grid [rows, heads / kWarps].
template <RopePairing kPairing>
__global__ void __launch_bounds__(kWarps* kWarpThreads)
    NormAndRotateKernel(Tensor qkv, HeadShape shape, QkNorm norm, Tensor angles) {
  const int index =
      static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / kWarpThreads;
  if (index >= shape.num_heads + shape.num_kv_heads) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int half = shape.head_dim / 2;
  float* const head = qkv.data + blockIdx.x * qkv.stride + index * shape.head_dim;
  const float* const weight = index < shape.num_heads ? norm.q_weight : norm.k_weight;

  float2 values[kMaxPairsPerLane];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxPairsPerLane; ++i) {
    if (lane + i * kWarpThreads >= half) continue;
    const Pair pair = PairAt<kPairing>(lane + i * kWarpThreads, half);
    values[i] = {head[pair.first], head[pair.second]};
    squares += values[i].x * values[i].x + values[i].y * values[i].y;
  }
  float scale = 1;
  if (weight != nullptr) {
    scale = rsqrtf(WarpSum(squares) / static_cast<float>(shape.head_dim) + norm.eps);
  }
  const float* const cosines = angles.data + blockIdx.x * angles.stride;
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
    head[pair.first] = value.x * cosine - value.y * sine;
    head[pair.second] = value.y * cosine + value.x * sine;
  }
}

}  // namespace

cudaError_t RopeAngles(cudaStream_t stream, const int32_t* positions, const double* frequencies,
                       Tensor out) {
  return Launch(stream, {static_cast<unsigned>(out.rows), kAngleThreads}, RopeAnglesKernel,
                positions, frequencies, out);
}

cudaError_t NormAndRotate(cudaStream_t stream, Tensor qkv, const HeadShape& shape,
                          const QkNorm& norm, Tensor angles, RopePairing pairing) {
  const int num_heads = shape.num_heads + shape.num_kv_heads;
  const dim3 grid(static_cast<unsigned>(qkv.rows),
                  static_cast<unsigned>(DivideUp(num_heads, kWarps)));
  const auto kernel = pairing == RopePairing::kHalves
                          ? NormAndRotateKernel<RopePairing::kHalves>
                          : NormAndRotateKernel<RopePairing::kInterleaved>;
  return Launch(stream, {grid, kWarps * kWarpThreads}, kernel, qkv, shape, norm, angles);
}

}  // namespace kvec::kernels::cuda
