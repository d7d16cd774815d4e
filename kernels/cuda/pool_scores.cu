// Parts of policies' scores, which no library has.
//
// PoolScores reads sums once, but for a tile's edges, and writes scores: 8 n num_kv_heads bytes.
// Deviations reads the scores twice, the second time from the L2 cache, a block per head: as the
// host's, its sum is of kDeviationSums sums, so that a block's threads have one each. MeanFocus
// reads num_queries rows once.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/pool_scores.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

dim3 GridOf(int n, int num_rows) {
  return {static_cast<unsigned>(DivideUp(n, kThreads)), static_cast<unsigned>(num_rows)};
}

// Heads before `head` in the order of their deviations.
__device__ int RankOf(const float* deviations, int num_heads, int head) {
  int rank = 0;
  for (int other = 0; other < num_heads; ++other) {
    rank += deviations[other] < deviations[head] ||
            (deviations[other] == deviations[head] && other < head);
  }
  return rank;
}

// Grid [n / kThreads, num_kv_heads].
__global__ void __launch_bounds__(kThreads) PoolScoresKernel(PoolArguments a) {
  KVEC_SHARED_ARRAY(float, sums, [kThreads + 2 * kMaxPoolRadius]);
  const int head = static_cast<int>(blockIdx.y);
  if (a.deviations != nullptr && RankOf(a.deviations, a.num_kv_heads, head) >= a.num_widened) {
    return;
  }
  const int n = a.num_candidates;
  const size_t row = static_cast<size_t>(head) * static_cast<size_t>(n);
  const int begin = static_cast<int>(blockIdx.x) * kThreads - a.radius;
  for (int i = static_cast<int>(threadIdx.x); i < kThreads + 2 * a.radius; i += kThreads) {
    const int t = begin + i;
    sums[i] = t >= 0 && t < n ? a.sums[row + static_cast<size_t>(t)] : 0.0f;
  }
  __syncthreads();
  const int t = begin + a.radius + static_cast<int>(threadIdx.x);
  if (t >= n) return;
  float max = 0;
  for (int i = 0; i <= 2 * a.radius; ++i) max = fmaxf(max, sums[static_cast<int>(threadIdx.x) + i]);
  a.scores[row + static_cast<size_t>(t)] = max / static_cast<float>(a.group_size);
}

// Of all threads' numbers, for each of them: halves of the threads are added until one is left.
__device__ double SumOfThreads(double* sums, double own) {
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // who still reads an earlier sum
  sums[thread] = own;
  for (int count = kDeviationSums / 2; count > 0; count /= 2) {
    __syncthreads();
    if (thread < count) sums[thread] += sums[thread + count];
  }
  __syncthreads();
  return sums[0];
}

// A block per head.
__global__ void __launch_bounds__(kDeviationSums)
    DeviationsKernel(const float* scores, int n, float* deviations) {
  KVEC_SHARED_ARRAY(double, sums, [kDeviationSums]);
  const float* const row = scores + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(n);
  const int thread = static_cast<int>(threadIdx.x);
  double own = 0;
#pragma unroll 4
  for (int t = thread; t < n; t += kDeviationSums) own += row[t];
  const double mean = SumOfThreads(sums, own) / n;
  own = 0;
#pragma unroll 4
  for (int t = thread; t < n; t += kDeviationSums) {
    const double difference = row[t] - mean;
    own = __dadd_rn(own, __dmul_rn(difference, difference));
  }
  const double squares = SumOfThreads(sums, own);
  if (thread == 0) deviations[blockIdx.x] = static_cast<float>(sqrt(squares / n));
}

__global__ void __launch_bounds__(kThreads)
    MeanFocusKernel(const float* largest, int num_queries, int n, float* focus) {
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (t >= n) return;
  float sum = 0;
  for (int query = 0; query < num_queries; ++query) {
    sum += largest[static_cast<size_t>(query) * static_cast<size_t>(n) + static_cast<size_t>(t)];
  }
  focus[t] = sum / static_cast<float>(num_queries);
}

// Grid [n / kThreads, num_kv_heads]. Floats tell positions below 2^24 apart.
__global__ void __launch_bounds__(kThreads)
    ScoreByRecencyKernel(int n, int num_sinks, float* scores) {
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (t >= n) return;
  scores[static_cast<size_t>(blockIdx.y) * static_cast<size_t>(n) + static_cast<size_t>(t)] =
      static_cast<float>(t < num_sinks ? n : t);
}

}  // namespace

cudaError_t PoolScores(cudaStream_t stream, const PoolArguments& arguments) {
  return Launch(stream, {GridOf(arguments.num_candidates, arguments.num_kv_heads), kThreads},
                PoolScoresKernel, arguments);
}

cudaError_t Deviations(cudaStream_t stream, const float* scores, int num_kv_heads, int n,
                       float* deviations) {
  return Launch(stream, {static_cast<unsigned>(num_kv_heads), kDeviationSums}, DeviationsKernel,
                scores, n, deviations);
}

cudaError_t MeanFocus(cudaStream_t stream, const float* largest, int num_queries, int n,
                      float* focus) {
  return Launch(stream, {GridOf(n, 1), kThreads}, MeanFocusKernel, largest, num_queries, n, focus);
}

cudaError_t ScoreByRecency(cudaStream_t stream, int num_kv_heads, int n, int num_sinks,
                           float* scores) {
  return Launch(stream, {GridOf(n, num_kv_heads), kThreads}, ScoreByRecencyKernel, n, num_sinks,
                scores);
}

}  // namespace kvec::kernels::cuda
