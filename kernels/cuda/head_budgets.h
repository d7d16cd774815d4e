#ifndef KVEC_KERNELS_CUDA_HEAD_BUDGETS_H_
#define KVEC_KERNELS_CUDA_HEAD_BUDGETS_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace kvec::kernels::cuda {

inline constexpr int kMaxChosenHeads = 256;

struct HeadBudgetArguments {
  const float* scores = nullptr;  // P[num_kv_heads, n]
  int num_kv_heads = 0;           // at most kMaxChosenHeads
  int num_candidates = 0;         // n
  int layer_budget = 0;           // over all heads; 1 … num_kv_heads · n
  int sure = 0;                   // of it, each head's; 0 … n
  int32_t* budgets = nullptr;     // [num_kv_heads]
  void* workspace = nullptr;      // HeadBudgetWorkspaceBytes
};

size_t HeadBudgetWorkspaceBytes(int num_kv_heads);

// How many of a layer's slots each head gets: its `sure` best, and the rest of layer_budget goes to
// the best (head, candidate) pairs; ties go to the lower head.
cudaError_t ShareBudget(cudaStream_t stream, const HeadBudgetArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_HEAD_BUDGETS_H_
