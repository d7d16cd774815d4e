// What each head of a layer keeps. One block: a head's scores depend on what the heads before it
// have taken, and a layer's on the layers before. For each head a radix select, of 12 bits a pass,
// over n scores, once for its free slots and up to twice for the reserved ones: all bits of the
// keys would be 6 passes, but a cut is mostly known after 2, which leave one score in 2^15. With
// one pass to mark what is taken a head reads its scores 3 times, or 6 with reserved slots, 4 n
// bytes each, from the L2 cache; bitmaps and counts add less than a third. SumLostAttention reads
// the means once more, 4 n num_heads bytes, a block per query head.

#include <cuda_runtime.h>

#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/key_cut.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

// One head's choice, by all threads of the block.
class HeadChoice {
 public:
  // `shared`: see CutByKey.
  __device__ HeadChoice(const ChooseArguments& a, int head, int* shared)
      : a_(a),
        shared_(shared),
        n_(a.num_candidates),
        num_words_((n_ + 31) / 32),
        scores_(a.scores + static_cast<size_t>(head) * static_cast<size_t>(n_)),
        kept_(a.kept_words + static_cast<size_t>(head) * static_cast<size_t>(num_words_)) {}

  __device__ void Choose(int budget, int32_t* list) const {
    for (int i = static_cast<int>(threadIdx.x); i < num_words_; i += kCutThreads) kept_[i] = 0;
    __syncthreads();
    const int reserved = static_cast<int>(a_.reserved_share *
                                          static_cast<double>(max(0, budget - a_.reserved_from)));
    int num_free = budget;
    num_free -= Take(budget - reserved, [this](int t) { return KeyAt(t); });
    num_free -= Take(num_free,
                     [this](int t) { return HasBit(kept_, t) || IsTaken(t) ? kNoKey : KeyAt(t); });
    Take(num_free, [this](int t) { return HasBit(kept_, t) ? kNoKey : KeyAt(t); });
    ListMarked(n_, kept_, list);
    for (int i = static_cast<int>(threadIdx.x); i < num_words_; i += kCutThreads) {
      a_.taken_words[i] |= kept_[i];
    }
    __syncthreads();
  }

 private:
  __device__ uint64_t KeyAt(int t) const {
    const double score = scores_[t];
    return CutKeyOf(HasBit(a_.taken_words, t) ? score * a_.taken_factor : score);
  }
  // By an earlier layer, or a head of this one.
  __device__ bool IsTaken(int t) const {
    return a_.layers_selecting[t] > 0 || HasBit(a_.taken_words, t);
  }

  // Marks the `wanted` best tokens in kept_; returns how many there are of them.
  template <typename KeyFunction>
  __device__ int Take(int wanted, const KeyFunction& key_of) const {
    if (wanted <= 0) return 0;
    const KeyCut cut = CutByKey(n_, wanted, key_of, shared_);
    MarkTaken(n_, cut, key_of, kept_);
    __syncthreads();
    return cut.num_taken;
  }

  const ChooseArguments& a_;
  int* const shared_;
  const int n_;
  const int num_words_;
  const float* const scores_;
  uint32_t* const kept_;
};

// In the order in which heads choose, and where each head's list begins.
struct HeadOrder {
  int* heads;
  int* begins;
};

__device__ void OrderHeads(const ChooseArguments& a, const HeadOrder& order) {
  const int head = static_cast<int>(threadIdx.x);
  const auto budget_of = [&](int of) {
    return a.budgets == nullptr ? a.uniform_budget : a.budgets[of];
  };
  const int budget = head < a.num_kv_heads ? budget_of(head) : 0;
  Count total;
  const Count begin = PrefixSum<kCutThreads>(static_cast<Count>(budget), total);
  if (head < a.num_kv_heads) {
    int before = 0;
    for (int other = 0; other < a.num_kv_heads; ++other) {
      const int others = budget_of(other);
      before += others > budget || (others == budget && other < head);
    }
    order.heads[before] = head;
    order.begins[head] = static_cast<int>(begin);
    a.counts[head] = budget;
  }
  __syncthreads();
}

// Takes note of the layer for those after it.
__device__ void CountLayer(const ChooseArguments& a) {
  constexpr int kBatch = 4;  // numbers that are on their way from memory at a time
  int own = 0;
  for (int begin = static_cast<int>(threadIdx.x); begin < a.num_candidates;
       begin += kBatch * kCutThreads) {
    int counts[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int t = begin + i * kCutThreads;
      const bool is_taken = t < a.num_candidates && HasBit(a.taken_words, t);
      counts[i] = is_taken ? a.layers_selecting[t] + 1 : 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (counts[i] == 0) continue;
      a.layers_selecting[begin + i * kCutThreads] = static_cast<uint16_t>(counts[i]);
      ++own;
    }
  }
  Count total;
  (void)PrefixSum<kCutThreads>(static_cast<Count>(own), total);
  if (threadIdx.x == 0) *a.num_unique = static_cast<int32_t>(total);
}

__global__ void __launch_bounds__(kCutThreads) ChooseEntriesKernel(ChooseArguments a) {
  KVEC_SHARED_ARRAY(int, heads, [kMaxChosenHeads]);
  KVEC_SHARED_ARRAY(int, begins, [kMaxChosenHeads]);
  KVEC_SHARED_ARRAY(int, cut, [kCutSharedInts]);
  const int num_words = (a.num_candidates + 31) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < num_words; i += kCutThreads) {
    a.taken_words[i] = 0;
  }
  OrderHeads(a, {heads, begins});
  for (int i = 0; i < a.num_kv_heads; ++i) {
    const int head = heads[i];
    HeadChoice(a, head, cut).Choose(a.counts[head], a.kept + begins[head]);
  }
  CountLayer(a);
}

constexpr int kSumThreads = 1024;

// Grid [num_heads].
__global__ void __launch_bounds__(kSumThreads)
    SumLostAttentionKernel(HeadShape shape, const float* means, int n, const uint32_t* kept_words,
                           double* lost) {
  KVEC_SHARED_ARRAY(double, sums, [kSumThreads]);
  const int head = static_cast<int>(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int kv_head = (head + shape.group_offset) / shape.group_size;
  const uint32_t* const kept =
      kept_words + static_cast<size_t>(kv_head) * static_cast<size_t>((n + 31) / 32);
  const float* const row = means + static_cast<size_t>(head) * static_cast<size_t>(n);
  double sum = 0;
#pragma unroll 4
  for (int t = thread; t < n; t += kSumThreads) {
    const float mean = row[t];
    sum += HasBit(kept, t) ? 0.0f : mean;
  }
  sums[thread] = sum;
  for (int count = kSumThreads / 2; count > 0; count /= 2) {
    __syncthreads();
    if (thread < count) sums[thread] += sums[thread + count];
  }
  if (thread == 0) lost[head] = sums[0];
}

}  // namespace

cudaError_t ChooseEntries(cudaStream_t stream, const ChooseArguments& arguments) {
  return Launch(stream, {1, kCutThreads}, ChooseEntriesKernel, arguments);
}

cudaError_t SumLostAttention(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                             const uint32_t* kept_words, double* lost) {
  return Launch(stream, {static_cast<unsigned>(shape.num_heads), kSumThreads},
                SumLostAttentionKernel, shape, means, n, kept_words, lost);
}

}  // namespace kvec::kernels::cuda
