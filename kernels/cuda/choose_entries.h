#ifndef KVEC_KERNELS_CUDA_CHOOSE_ENTRIES_H_
#define KVEC_KERNELS_CUDA_CHOOSE_ENTRIES_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/head_budgets.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// Between 0 and this no taken_factor may be: it could make two scores alike that differ.
inline constexpr double kMinTakenFactor = 1.0 / 256;

// Words of 32 candidates, a bit for each.
inline size_t BitmapWords(int num_candidates) {
  return (static_cast<size_t>(num_candidates) + 31) / 32;
}

struct ChooseArguments {
  const float* scores = nullptr;     // P[num_kv_heads, n]
  int num_kv_heads = 0;              // at most kMaxChosenHeads
  int num_candidates = 0;            // n
  const int32_t* budgets = nullptr;  // [num_kv_heads], 0 … n; null: uniform_budget each
  int uniform_budget = 0;
  // See kernels::CoverageRules.
  double taken_factor = 1;
  double reserved_share = 0;
  int reserved_from = 0;
  uint16_t* layers_selecting = nullptr;  // [n]: counted up where some head keeps the candidate
  uint32_t* kept_words = nullptr;        // [num_kv_heads, BitmapWords]: what each head keeps
  uint32_t* work_words = nullptr;        // [3, BitmapWords]: of work
  int32_t* counts = nullptr;             // [num_kv_heads]: entries that each head keeps
  int32_t* num_unique = nullptr;         // [1]: candidates that some head keeps
  int32_t* kept = nullptr;               // of head after head, ascending
};

// Heads choose in order of falling budget; a candidate that one has taken counts taken_factor of
// its score for those after it, and each head's reserved slots go to the best of what neither
// earlier layers nor earlier heads hold, then to the best of the others. Ties go to the lower head
// and the lower candidate.
cudaError_t ChooseEntries(cudaStream_t stream, const ChooseArguments& arguments);

// lost[num_heads]: the sum of means[num_heads, n] over what the query head's KV head, of
// kept_words[num_kv_heads, BitmapWords], does not keep.
cudaError_t SumLostAttention(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                             const uint32_t* kept_words, double* lost);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CHOOSE_ENTRIES_H_
