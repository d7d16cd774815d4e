#ifndef KVEC_KERNELS_CUDA_KEY_CUT_H_
#define KVEC_KERNELS_CUDA_KEY_CUT_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/ranked_choice.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/cuda/warp_math.h"

// Choosing the best of many tokens by scores in double precision, by one block of kCutThreads;
// tokens are marked in words of 32. Device code only. Like ranked_choice.h's cuts, but by longer
// keys, of which most are never looked at: a cut is known when all tokens with a digit are taken.
//
// Tokens' keys are given by an object, so that most of the work can be done with the keys' highest
// bits, wherever these are:
//
//   static constexpr int kBits;        // keys are below 2^kBits
//   uint64_t Whole(int token) const;   // a key, kLeastKey<kBits> or more; not called without one
//   uint32_t Top(int token) const;     // its highest kTopBits bits; 0: it may not be chosen
namespace kvec::kernels::cuda {

inline constexpr int kCutThreads = 1024;
inline constexpr int kCutWarps = kCutThreads / kWarpThreads;

inline constexpr int kTopBits = 16;

template <int kBits>
inline constexpr int kTopShift = kBits - kTopBits;
template <int kBits>
inline constexpr uint64_t kLeastKey = uint64_t{1} << kTopShift<kBits>;

__device__ __forceinline__ bool HasBit(const uint32_t* words, int t) {
  return (words[t / kWarpThreads] >> (t % kWarpThreads) & 1) != 0;
}

inline constexpr int kCutKeyBits = 62;

// Monotonic in the bits of a double that is a float that is not negative, or such a float times 0
// or a factor of 1/256 … 1: of a double's exponent these need 9 bits.
__device__ __forceinline__ uint64_t CutKeyOf(uint64_t bits) {
  constexpr uint64_t kLowest = uint64_t{1023 - 160} << 52;
  constexpr uint64_t kHighest = (uint64_t{1} << 61) - 1;
  constexpr uint64_t kLeast = kLeastKey<kCutKeyBits>;
  if (bits < kLowest) return kLeast;
  return kLeast + 1 + (bits - kLowest < kHighest ? bits - kLowest : kHighest);
}
__device__ __forceinline__ uint64_t CutKeyOf(double score) {
  return CutKeyOf(static_cast<uint64_t>(__double_as_longlong(score)));
}
// The same of a float, mostly without its being converted, which takes a multiprocessor long.
__device__ __forceinline__ uint64_t CutKeyOf(float score) {
  constexpr uint32_t kLeastNormal = 1u << 23;
  constexpr uint64_t kExponents = uint64_t{1023 - 127} << 52;
  const uint32_t bits = __float_as_uint(score);
  if (bits < kLeastNormal) return CutKeyOf(static_cast<double>(score));
  return CutKeyOf((static_cast<uint64_t>(bits) << 29) + kExponents);
}

// Takes the tokens whose key >> shift is above that of `prefix`, and the first num_equal of those
// for which it is the same.
struct KeyCut {
  uint64_t prefix;
  int shift;
  int num_equal;
  bool takes_all_equal;
  int num_taken;  // in all
};

namespace key_cut {

constexpr int kDigitBits = 12;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kDigitsPerThread = kDigits / kCutThreads;
constexpr int kBatch = 4;  // keys that are on their way from memory at a time

// counts[kDigits]: of the tokens whose keys have the prefix above known_shift, by the digit at
// `shift`.
template <typename Keys>
__device__ void CountDigits(int num_tokens, uint64_t prefix, int known_shift, int shift,
                            const Keys& keys, int* counts) {
  constexpr int kShift = kTopShift<Keys::kBits>;
  const uint32_t top_prefix = static_cast<uint32_t>(prefix >> kShift);
  const int top_known = max(known_shift - kShift, 0);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kCutThreads) counts[i] = 0;
  __syncthreads();
  for (int begin = static_cast<int>(threadIdx.x); begin < num_tokens;
       begin += kBatch * kCutThreads) {
    uint32_t tops[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int token = begin + i * kCutThreads;
      tops[i] = token < num_tokens ? keys.Top(token) : 0;
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (tops[i] == 0 || (tops[i] ^ top_prefix) >> top_known != 0) continue;
      if (shift >= kShift) {
        atomicAdd(&counts[tops[i] >> (shift - kShift) & (kDigits - 1)], 1);
        continue;
      }
      const uint64_t key = keys.Whole(begin + i * kCutThreads);
      if ((key ^ prefix) >> known_shift != 0) continue;
      atomicAdd(&counts[key >> shift & (kDigits - 1)], 1);
    }
  }
  __syncthreads();
}

// The words that a warp marks: neighbours, so that what needs the order of tokens is a sum over
// warps.
struct WordRun {
  int begin;
  int end;
};

__device__ __forceinline__ WordRun RunOfWarp(int num_tokens) {
  const int num_words = (num_tokens + kWarpThreads - 1) / kWarpThreads;
  const int length = (num_words + kCutWarps - 1) / kCutWarps;
  const int begin = static_cast<int>(threadIdx.x) / kWarpThreads * length;
  return {min(begin, num_words), min(begin + length, num_words)};
}

__device__ __forceinline__ int LaneOf() { return static_cast<int>(threadIdx.x) % kWarpThreads; }
__device__ __forceinline__ uint32_t LanesBefore() { return (1u << LaneOf()) - 1; }

// Over the threads of the warps before this one.
__device__ __forceinline__ int SumBeforeWarp(int of_thread) {
  Count total;
  const Count before = PrefixSum<kCutThreads>(static_cast<Count>(of_thread), total);
  return __shfl_sync(kAllLanes, static_cast<int>(before), 0);
}

}  // namespace key_cut

inline constexpr int kCutSharedInts = key_cut::kDigits + 3;

// The first `wanted` tokens, at least 1, by falling key; of equal keys the lower token is first.
// All that have a key, where they are fewer. `shared`[kCutSharedInts] is in shared memory and the
// caller's: an array of its own in each instance of this template would be too much of it.
template <typename Keys>
__device__ KeyCut CutByKey(int num_tokens, int wanted, const Keys& keys, int* shared) {
  using key_cut::kDigitBits;
  int* const counts = shared;
  int* const found =
      shared + key_cut::kDigits;  // the digit, its tokens, how many of them are taken
  uint64_t prefix = 0;
  int left = wanted;
  int known_shift = Keys::kBits;
  for (;;) {
    const int shift = max(known_shift - kDigitBits, 0);  // at 0 some bits of the digit are known
    key_cut::CountDigits(num_tokens, prefix, known_shift, shift, keys, counts);
    const int highest =
        key_cut::kDigits - 1 - static_cast<int>(threadIdx.x) * key_cut::kDigitsPerThread;
    int own = 0;
    for (int i = 0; i < key_cut::kDigitsPerThread; ++i) own += counts[highest - i];
    Count total;
    int before = static_cast<int>(PrefixSum<kCutThreads>(static_cast<Count>(own), total));
    // Of the first digit only: later ones have more than they need.
    if (total <= static_cast<Count>(left)) {
      return {0, Keys::kBits, 0, true, static_cast<int>(total)};
    }
    for (int i = 0; i < key_cut::kDigitsPerThread; ++i) {
      const int count = counts[highest - i];
      if (before < left && before + count >= left) {  // true of one
        found[0] = highest - i;
        found[1] = count;
        found[2] = left - before;
      }
      before += count;
    }
    __syncthreads();
    prefix |= static_cast<uint64_t>(found[0]) << shift;
    left = found[2];
    const bool takes_all = found[1] == left;
    if (takes_all || shift == 0) return {prefix, shift, left, takes_all, wanted};
    known_shift = shift;
  }
}

// Where a token is of a cut.
enum class Side { kBelow, kEqual, kAbove };

template <typename Keys>
__device__ Side SideOf(const KeyCut& cut, const Keys& keys, int token, uint32_t top) {
  constexpr int kShift = kTopShift<Keys::kBits>;
  const int top_shift = max(cut.shift - kShift, 0);
  const uint32_t own_top = top >> top_shift;
  const uint32_t cut_top = static_cast<uint32_t>(cut.prefix >> kShift) >> top_shift;
  if (top == 0 || own_top < cut_top) return Side::kBelow;
  if (own_top > cut_top) return Side::kAbove;
  if (cut.shift >= kShift) return Side::kEqual;
  const uint64_t own = keys.Whole(token) >> cut.shift;
  const uint64_t prefix = cut.prefix >> cut.shift;
  return own > prefix ? Side::kAbove : own == prefix ? Side::kEqual : Side::kBelow;
}

// Marks the tokens that a cut takes in `words`, bit t % 32 of word t / 32. Afterwards only the warp
// of a word may read it before the block's next barrier.
template <typename Keys>
__device__ void MarkTaken(int num_tokens, const KeyCut& cut, const Keys& keys, uint32_t* words) {
  const key_cut::WordRun run = key_cut::RunOfWarp(num_tokens);
  const auto token_in = [](int word) { return word * kWarpThreads + key_cut::LaneOf(); };
  const auto top_in = [&](int word) {
    return token_in(word) < num_tokens ? keys.Top(token_in(word)) : 0;
  };
  int rank = 0;  // among the equal ones, of the warp's next word's first
  if (!cut.takes_all_equal) {
    int num_equal = 0;
    for (int word = run.begin; word < run.end; ++word) {
      num_equal += SideOf(cut, keys, token_in(word), top_in(word)) == Side::kEqual ? 1 : 0;
    }
    rank = key_cut::SumBeforeWarp(num_equal);
  }
  for (int first = run.begin; first < run.end; first += key_cut::kBatch) {
    uint32_t tops[key_cut::kBatch];
#pragma unroll
    for (int i = 0; i < key_cut::kBatch; ++i) {
      tops[i] = first + i < run.end ? top_in(first + i) : 0;
    }
#pragma unroll
    for (int i = 0; i < key_cut::kBatch; ++i) {
      const Side side = SideOf(cut, keys, token_in(first + i), tops[i]);
      const bool equal = side == Side::kEqual;
      const uint32_t equals = __ballot_sync(kAllLanes, equal);
      const bool is_first =
          cut.takes_all_equal || rank + __popc(equals & key_cut::LanesBefore()) < cut.num_equal;
      const bool takes = side == Side::kAbove || (equal && is_first);
      const uint32_t taken = __ballot_sync(kAllLanes, takes);
      if (key_cut::LaneOf() == 0 && taken != 0) words[first + i] |= taken;
      rank += __popc(equals);
    }
  }
}

// Writes the marked tokens to `list`, ascending.
__device__ __forceinline__ void ListMarked(int num_tokens, const uint32_t* words, int32_t* list) {
  const key_cut::WordRun run = key_cut::RunOfWarp(num_tokens);
  const int lane = key_cut::LaneOf();
  int own_marked = 0;
  for (int word = run.begin + lane; word < run.end; word += kWarpThreads) {
    own_marked += __popc(words[word]);
  }
  int place = key_cut::SumBeforeWarp(own_marked);
  for (int first = run.begin; first < run.end; first += kWarpThreads) {
    const uint32_t own = first + lane < run.end ? words[first + lane] : 0;
    const int count = min(kWarpThreads, run.end - first);
    for (int i = 0; i < count; ++i) {
      const uint32_t marked = __shfl_sync(kAllLanes, own, i);
      if ((marked >> lane & 1) != 0) {
        list[place + __popc(marked & key_cut::LanesBefore())] = (first + i) * kWarpThreads + lane;
      }
      place += __popc(marked);
    }
  }
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_KEY_CUT_H_
