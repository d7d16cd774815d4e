#ifndef KVEC_KERNELS_CUDA_TOP_ENTRIES_H_
#define KVEC_KERNELS_CUDA_TOP_ENTRIES_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace kvec::kernels::cuda {

struct TopEntriesArguments {
  const float* scores = nullptr;     // P[num_kv_heads, n], none negative
  int num_kv_heads = 0;              // at most kMaxChosenHeads
  int num_candidates = 0;            // n
  const int32_t* budgets = nullptr;  // [num_kv_heads], 0 … n; null: uniform_budget each
  int uniform_budget = 0;
  // Of kernels::FocusRules: I[n], null without them.
  const float* focus = nullptr;
  double lambda = 0;
  int num_forced = 0;                    // of each head's slots, for its best by P alone
  int num_layers_before = 0;             // that have chosen
  uint32_t* forced_words = nullptr;      // [num_kv_heads, BitmapWords]: these; for work, as
  double* raises = nullptr;              // [n]: what is added to P
  uint16_t* layers_selecting = nullptr;  // [n]: counted up where some head keeps the candidate
  uint32_t* kept_words = nullptr;        // [num_kv_heads, BitmapWords]: what each head keeps
  int32_t* counts = nullptr;             // [num_kv_heads]: entries that each head keeps
  int32_t* num_unique = nullptr;         // [1]: candidates that some head keeps
  int32_t* kept = nullptr;               // of head after head, ascending
};

// Each head keeps its best by P, or by P + lambda · focus · (1 - layers_selecting /
// (num_layers_before + 1)), in double precision as on the host; what is forced counts 1 + lambda.
// Ties go to the lower candidate.
cudaError_t KeepTopEntries(cudaStream_t stream, const TopEntriesArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_TOP_ENTRIES_H_
