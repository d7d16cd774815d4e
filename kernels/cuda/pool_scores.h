#ifndef KVEC_KERNELS_CUDA_POOL_SCORES_H_
#define KVEC_KERNELS_CUDA_POOL_SCORES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvec::kernels::cuda {

// SnapKV's score, and what `kvec-paper` makes of it.

struct PoolArguments {
  const float* sums = nullptr;  // [num_kv_heads, n]: of each KV head's query heads, not negative
  int num_kv_heads = 0;
  int num_candidates = 0;  // n
  int group_size = 1;      // query heads of a KV head
  int radius = 0;          // at most kMaxPoolRadius
  // Only of the num_widened heads whose deviations[num_kv_heads] are the lowest; of equal ones the
  // lower head. Null: of all.
  const float* deviations = nullptr;
  int num_widened = 0;
  float* scores = nullptr;  // P[num_kv_heads, n]; of other heads unchanged
};

inline constexpr int kMaxPoolRadius = 16;

// P[t] = the largest sum among the tokens t - radius … t + radius, over group_size.
cudaError_t PoolScores(cudaStream_t stream, const PoolArguments& arguments);

// deviations[num_kv_heads]: the population standard deviation of each head's scores, in double
// precision in the order that the host sums in (worker/eviction/kvec_paper.cc), then rounded.
cudaError_t Deviations(cudaStream_t stream, const float* scores, int num_kv_heads, int n,
                       float* deviations);

// focus[n]: the mean of largest[num_queries, n], summed in that order.
cudaError_t MeanFocus(cudaStream_t stream, const float* largest, int num_queries, int n,
                      float* focus);

// scores[num_kv_heads, n]: the first num_sinks candidates rank first, then the last ones.
cudaError_t ScoreByRecency(cudaStream_t stream, int num_kv_heads, int n, int num_sinks,
                           float* scores);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_POOL_SCORES_H_
