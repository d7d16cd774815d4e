// Of our own: CUB's top-k is one array's, in an order of its own among equals; a layer's heads are
// cut here at once, and among equals the lower position is kept.
//
// What heads keep that choose by themselves. A block per head: a radix select, of 12 bits a pass,
// over n scores, mostly 2 passes and one to mark, 4 n bytes each, from the L2 cache; with a focus
// twice, the second time with 8 bytes more for every candidate, which all heads' scores are raised
// by. Another kernel counts what some head keeps, once all have chosen: n num_kv_heads / 8 bytes
// and 4 n of counts.

#include <cuda_runtime.h>

#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/key_cut.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/cuda/top_entries.h"

namespace kvec::kernels::cuda {
namespace {

__device__ int BudgetOf(const TopEntriesArguments& a, int head) {
  return a.budgets == nullptr ? a.uniform_budget : a.budgets[head];
}

// Entries of lower heads.
__device__ int ListBeginOf(const TopEntriesArguments& a, int head) {
  const int other = static_cast<int>(threadIdx.x);
  Count before;
  (void)PrefixSum<kCutThreads>(other < head ? static_cast<Count>(BudgetOf(a, other)) : Count{0},
                               before);
  return static_cast<int>(before);
}

// Of a head's scores.
struct ScoreKeys {
  static constexpr int kBits = kCutKeyBits;
  const float* scores;

  __device__ uint64_t Whole(int t) const { return CutKeyOf(scores[t]); }
  __device__ uint32_t Top(int t) const {
    return static_cast<uint32_t>(Whole(t) >> kTopShift<kBits>);
  }
};

// Of scores that are raised, any numbers that are not negative: with all bits of the exponent.
struct RaisedKeys {
  static constexpr int kBits = 63;
  const float* scores;
  const double* raises;
  const uint32_t* forced;
  double of_forced;

  __device__ uint64_t Whole(int t) const {
    const double raised = HasBit(forced, t) ? of_forced : scores[t] + raises[t];
    return kLeastKey<kBits> + static_cast<uint64_t>(__double_as_longlong(raised));
  }
  __device__ uint32_t Top(int t) const {
    return static_cast<uint32_t>(Whole(t) >> kTopShift<kBits>);
  }
};

constexpr int kCandidateThreads = 256;

// A thread per candidate. Each product rounded, as on the host.
__global__ void __launch_bounds__(kCandidateThreads) RaiseKernel(TopEntriesArguments a) {
  const int t = static_cast<int>(blockIdx.x) * kCandidateThreads + static_cast<int>(threadIdx.x);
  if (t >= a.num_candidates) return;
  const double covered = a.layers_selecting[t] / static_cast<double>(a.num_layers_before + 1);
  a.raises[t] = __dmul_rn(a.lambda, __dmul_rn(a.focus[t], 1.0 - covered));
}

// Grid [num_kv_heads].
template <bool kHasFocus>
__global__ void __launch_bounds__(kCutThreads) TopEntriesKernel(TopEntriesArguments a) {
  KVEC_SHARED_ARRAY(int, cut_memory, [kCutSharedInts]);
  const int head = static_cast<int>(blockIdx.x);
  const int n = a.num_candidates;
  const int num_words = (n + kWarpThreads - 1) / kWarpThreads;
  const size_t first_word = static_cast<size_t>(head) * static_cast<size_t>(num_words);
  uint32_t* const kept = a.kept_words + first_word;
  uint32_t* const forced = kHasFocus ? a.forced_words + first_word : nullptr;
  for (int i = static_cast<int>(threadIdx.x); i < num_words; i += kCutThreads) {
    kept[i] = 0;
    if (kHasFocus) forced[i] = 0;
  }
  __syncthreads();
  const ScoreKeys keys{a.scores + static_cast<size_t>(head) * static_cast<size_t>(n)};
  const int budget = BudgetOf(a, head);
  if constexpr (kHasFocus) {
    if (a.num_forced > 0) {
      MarkTaken(n, CutByKey(n, a.num_forced, keys, cut_memory), keys, forced);
      __syncthreads();
    }
    const RaisedKeys raised{keys.scores, a.raises, forced, 1.0 + a.lambda};
    if (budget > 0) MarkTaken(n, CutByKey(n, budget, raised, cut_memory), raised, kept);
  } else if (budget > 0) {
    MarkTaken(n, CutByKey(n, budget, keys, cut_memory), keys, kept);
  }
  __syncthreads();
  ListMarked(n, kept, a.kept + ListBeginOf(a, head));
  if (threadIdx.x == 0) a.counts[head] = budget;
}

// A thread per candidate.
__global__ void __launch_bounds__(kCandidateThreads) CountKeptKernel(TopEntriesArguments a) {
  const int t = static_cast<int>(blockIdx.x) * kCandidateThreads + static_cast<int>(threadIdx.x);
  const int num_words = (a.num_candidates + kWarpThreads - 1) / kWarpThreads;
  bool is_kept = false;
  for (int head = 0; head < a.num_kv_heads && t < a.num_candidates; ++head) {
    is_kept = is_kept ||
              HasBit(a.kept_words + static_cast<size_t>(head) * static_cast<size_t>(num_words), t);
  }
  if (is_kept) a.layers_selecting[t] = static_cast<uint16_t>(a.layers_selecting[t] + 1);
  const int of_warp = __popc(__ballot_sync(kAllLanes, is_kept));
  if (threadIdx.x % kWarpThreads == 0 && of_warp > 0) atomicAdd(a.num_unique, of_warp);
}

}  // namespace

cudaError_t KeepTopEntries(cudaStream_t stream, const TopEntriesArguments& a) {
  cudaError_t error = cudaMemsetAsync(a.num_unique, 0, sizeof(int32_t), stream);
  if (error != cudaSuccess) return error;
  const LaunchShape per_candidate{
      static_cast<unsigned>(DivideUp(a.num_candidates, kCandidateThreads)), kCandidateThreads};
  if (a.focus != nullptr) {
    error = Launch(stream, per_candidate, RaiseKernel, a);
    if (error != cudaSuccess) return error;
  }
  const auto kernel = a.focus == nullptr ? TopEntriesKernel<false> : TopEntriesKernel<true>;
  error = Launch(stream, {static_cast<unsigned>(a.num_kv_heads), kCutThreads}, kernel, a);
  if (error != cudaSuccess) return error;
  return Launch(stream, per_candidate, CountKeptKernel, a);
}

}  // namespace kvec::kernels::cuda
