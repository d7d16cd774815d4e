// Of our own: CUB selects and sorts arrays as they are, each in launches of its own, and here what
// a head may take hangs on the heads before it.
//
// What each head of a layer keeps. One block: a head's scores depend on what the heads before it
// have taken, and a layer's on the layers before. For each head a radix select, of 12 bits a pass,
// over n keys, once for its free slots and up to twice for the reserved ones: all bits of the keys
// would be 6 passes, but a cut is mostly known after 2, which leave one key in 2^15, and of these
// the second reads few. So a head's scores are read once, 4 n bytes from the L2 cache; of their
// keys the highest 16 bits stay in shared memory, if there is room for them, for 2 passes and one
// to mark what is taken, and as many with reserved slots. SumLostAttention reads the means once
// more, 4 n num_heads bytes, a block per query head.

#include <cuda_runtime.h>

#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/key_cut.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

// At most, of ChooseEntriesKernel and its functions, beside the keys' highest bits.
constexpr size_t kChoiceSharedBytes = size_t{20} << 10;
static_assert(kChoiceSharedBytes - (1 << 10) >=
              (2 * kMaxChosenHeads + kCutSharedInts) * sizeof(int));

// Of one head's scores, as they are discounted; not of what is in `excluded`, where it is not null.
struct DiscountedKeys {
  static constexpr int kBits = kCutKeyBits;
  const float* scores;
  const uint32_t* taken;
  double taken_factor;
  const uint16_t* tops;  // in shared memory; null: they are made anew every time
  const uint32_t* excluded;

  __device__ uint64_t Whole(int t) const {
    return HasBit(taken, t) ? CutKeyOf(scores[t] * taken_factor) : CutKeyOf(scores[t]);
  }
  __device__ uint32_t Top(int t) const {
    if (excluded != nullptr && HasBit(excluded, t)) return 0;
    if (tops != nullptr) return tops[t];
    return static_cast<uint32_t>(Whole(t) >> kTopShift<kBits>);
  }
};

// What the heads' choices are worked on in.
struct ChoiceMemory {
  int* cut;            // see CutByKey
  uint16_t* tops;      // [n], or null
  uint32_t* taken;     // [BitmapWords] each: by heads before
  uint32_t* covered;   // by layers before
  uint32_t* excluded;  // of a cut
};

// One head's choice, by all threads of the block.
class HeadChoice {
 public:
  __device__ HeadChoice(const ChooseArguments& a, int head, const ChoiceMemory& memory)
      : a_(a),
        memory_(memory),
        n_(a.num_candidates),
        num_words_((n_ + kWarpThreads - 1) / kWarpThreads),
        kept_(a.kept_words + static_cast<size_t>(head) * static_cast<size_t>(num_words_)),
        keys_{a.scores + static_cast<size_t>(head) * static_cast<size_t>(n_), memory.taken,
              a.taken_factor, nullptr, nullptr} {}

  __device__ void Choose(int budget, int32_t* list) {
    for (int i = static_cast<int>(threadIdx.x); i < num_words_; i += kCutThreads) kept_[i] = 0;
    if (memory_.tops != nullptr) KeepTops();
    __syncthreads();
    const int reserved = static_cast<int>(a_.reserved_share *
                                          static_cast<double>(max(0, budget - a_.reserved_from)));
    int num_free = budget;
    num_free -= Take(budget - reserved);
    if (num_free > 0) {
      Exclude([this](int i) { return kept_[i] | memory_.taken[i] | memory_.covered[i]; });
      num_free -= Take(num_free);
    }
    if (num_free > 0) {
      Exclude([this](int i) { return kept_[i]; });
      Take(num_free);
    }
    ListMarked(n_, kept_, list);
    for (int i = static_cast<int>(threadIdx.x); i < num_words_; i += kCutThreads) {
      memory_.taken[i] |= kept_[i];
    }
    __syncthreads();
  }

 private:
  __device__ void KeepTops() {
    constexpr int kBatch = 4;  // scores that are on their way from memory at a time
    for (int begin = static_cast<int>(threadIdx.x); begin < n_; begin += kBatch * kCutThreads) {
      uint32_t tops[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int t = begin + i * kCutThreads;
        tops[i] = t < n_ ? keys_.Top(t) : 0;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int t = begin + i * kCutThreads;
        if (t < n_) memory_.tops[t] = static_cast<uint16_t>(tops[i]);
      }
    }
    keys_.tops = memory_.tops;
  }

  // What word_of(word) marks may not be chosen any more.
  template <typename WordFunction>
  __device__ void Exclude(const WordFunction& word_of) {
    for (int i = static_cast<int>(threadIdx.x); i < num_words_; i += kCutThreads) {
      memory_.excluded[i] = word_of(i);
    }
    __syncthreads();
    keys_.excluded = memory_.excluded;
  }

  // Marks the `wanted` best tokens in kept_; returns how many there are of them.
  __device__ int Take(int wanted) const {
    if (wanted <= 0) return 0;
    const KeyCut cut = CutByKey(n_, wanted, keys_, memory_.cut);
    MarkTaken(n_, cut, keys_, kept_);
    __syncthreads();
    return cut.num_taken;
  }

  const ChooseArguments& a_;
  const ChoiceMemory& memory_;
  const int n_;
  const int num_words_;
  uint32_t* const kept_;
  DiscountedKeys keys_;
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

// What earlier layers hold; nothing of this one is taken.
__device__ void BeginLayer(const ChooseArguments& a, const ChoiceMemory& memory) {
  constexpr int kBatch = 8;  // words whose numbers are on their way from memory at a time
  const key_cut::WordRun run = key_cut::RunOfWarp(a.num_candidates);
  for (int first = run.begin; first < run.end; first += kBatch) {
    bool is_covered[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int t = (first + i) * kWarpThreads + key_cut::LaneOf();
      is_covered[i] = first + i < run.end && t < a.num_candidates && a.layers_selecting[t] > 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const uint32_t covered = __ballot_sync(kAllLanes, is_covered[i]);
      if (key_cut::LaneOf() != 0 || first + i >= run.end) continue;
      memory.covered[first + i] = covered;
      memory.taken[first + i] = 0;
    }
  }
}

// Takes note of the layer for those after it.
__device__ void CountLayer(const ChooseArguments& a, const uint32_t* taken) {
  constexpr int kBatch = 4;  // numbers that are on their way from memory at a time
  int own = 0;
  for (int begin = static_cast<int>(threadIdx.x); begin < a.num_candidates;
       begin += kBatch * kCutThreads) {
    int counts[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int t = begin + i * kCutThreads;
      const bool is_taken = t < a.num_candidates && HasBit(taken, t);
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

__global__ void __launch_bounds__(kCutThreads)
    ChooseEntriesKernel(ChooseArguments a, bool keeps_tops) {
  KVEC_SHARED_ARRAY(int, heads, [kMaxChosenHeads]);
  KVEC_SHARED_ARRAY(int, begins, [kMaxChosenHeads]);
  KVEC_SHARED_ARRAY(int, cut, [kCutSharedInts]);
  KVEC_DYNAMIC_SHARED_ARRAY(uint16_t, tops);
  const int num_words = (a.num_candidates + kWarpThreads - 1) / kWarpThreads;
  const ChoiceMemory memory{cut, keeps_tops ? tops : nullptr, a.work_words,
                            a.work_words + num_words, a.work_words + 2 * num_words};
  BeginLayer(a, memory);
  OrderHeads(a, {heads, begins});
  for (int i = 0; i < a.num_kv_heads; ++i) {
    const int head = heads[i];
    HeadChoice(a, head, memory).Choose(a.counts[head], a.kept + begins[head]);
  }
  CountLayer(a, memory.taken);
}

// Whether a block's shared memory has room for so many bytes beside what the kernel has.
bool HasSharedRoom(size_t bytes) {
  int device = 0;
  int most = 0;
  const bool is_known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess;
  return is_known && bytes + kChoiceSharedBytes <= static_cast<size_t>(most);
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
  const size_t top_bytes = static_cast<size_t>(arguments.num_candidates) * sizeof(uint16_t);
  const bool keeps_tops = HasSharedRoom(top_bytes);
  if (keeps_tops) {  // Launch does not know of what the kernel has beside it
    const cudaError_t error =
        cudaFuncSetAttribute(ChooseEntriesKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(top_bytes));
    if (error != cudaSuccess) return error;
  }
  return Launch(stream, {1, kCutThreads, keeps_tops ? top_bytes : 0}, ChooseEntriesKernel,
                arguments, keeps_tops);
}

cudaError_t SumLostAttention(cudaStream_t stream, const HeadShape& shape, const float* means, int n,
                             const uint32_t* kept_words, double* lost) {
  return Launch(stream, {static_cast<unsigned>(shape.num_heads), kSumThreads},
                SumLostAttentionKernel, shape, means, n, kept_words, lost);
}

}  // namespace kvec::kernels::cuda
