#ifndef KVEC_KERNELS_CUDA_RANKED_CHOICE_H_
#define KVEC_KERNELS_CUDA_RANKED_CHOICE_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/shared_memory.h"
#include "kernels/cuda/warp_math.h"

// Choosing the first of many scored tokens, by one block. Device code only. All sums are of
// integers: they are exact, so their order does not matter.
namespace kvec::kernels::cuda {

using Count = unsigned long long;  // what atomicAdd takes

// Tokens rank by falling key; of equal keys the lower token comes first. A cut keeps all tokens
// with keys above `key`, and the first num_equal of those with that key.
struct RankCut {
  uint32_t key;
  Count num_equal;
};

// Monotonic in the number, for all but NaN.
__device__ __forceinline__ uint32_t KeyOf(float number) {
  const uint32_t bits = __float_as_uint(number);
  constexpr uint32_t kSign = 0x80000000;
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

// The shortest prefix, in order of rank, of the tokens 0 … num_tokens - 1 whose measures add up to
// `wanted`; all have at least that much. `key_of(token)`, `measure_of(token)`; tokens of one key
// have one measure.
template <int kThreads, typename KeyFunction, typename MeasureFunction>
__device__ RankCut CutByMeasure(int num_tokens, Count wanted, const KeyFunction& key_of,
                                const MeasureFunction& measure_of) {
  constexpr int kDigits = 256;
  KVEC_SHARED_ARRAY(Count, measures, [kDigits]);
  KVEC_SHARED_ARRAY(Count, state, [2]);  // the key's digits so far, and what is still wanted
  KVEC_SHARED_ARRAY(Count, num_equal, [1]);
  if (threadIdx.x == 0) num_equal[0] = 1;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {  // from the highest digit of the key to the lowest
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kThreads) measures[i] = 0;
    __syncthreads();
    for (int token = static_cast<int>(threadIdx.x); token < num_tokens; token += kThreads) {
      const uint32_t key = key_of(token);
      const bool has_prefix = shift == 24 || key >> (shift + 8) == prefix >> (shift + 8);
      if (has_prefix) atomicAdd(&measures[key >> shift & (kDigits - 1)], measure_of(token));
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = kDigits - 1;
      Count left = wanted;
      while (digit > 0 && measures[digit] < left) left -= measures[digit--];
      state[0] = prefix | static_cast<uint32_t>(digit) << shift;
      state[1] = left;
    }
    __syncthreads();
    prefix = static_cast<uint32_t>(state[0]);
    wanted = state[1];
  }
  // What is left is to come from the tokens of this key: as many as that takes.
  for (int token = static_cast<int>(threadIdx.x); token < num_tokens; token += kThreads) {
    if (key_of(token) != prefix) continue;
    const Count measure = measure_of(token);
    if (measure > 0) atomicMax(&num_equal[0], (wanted + measure - 1) / measure);
  }
  __syncthreads();
  const RankCut cut{prefix, num_equal[0]};
  __syncthreads();  // before another cut begins
  return cut;
}

// Over the threads before this one; `total`: over all.
template <int kThreads>
__device__ Count PrefixSum(Count value, Count& total) {
  constexpr int kWarps = kThreads / kWarpThreads;
  KVEC_SHARED_ARRAY(Count, sums, [kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int own_warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  Count inclusive = value;
  for (int offset = 1; offset < kWarpThreads; offset *= 2) {
    const Count before = __shfl_up_sync(kAllLanes, inclusive, static_cast<unsigned>(offset));
    if (lane >= offset) inclusive += before;
  }
  __syncthreads();  // who still reads earlier sums
  if (lane == kWarpThreads - 1) sums[own_warp] = inclusive;
  __syncthreads();
  Count before = 0;
  total = 0;
  for (int warp = 0; warp < kWarps; ++warp) {
    if (warp < own_warp) before += sums[warp];
    total += sums[warp];
  }
  return before + inclusive - value;
}

// A run of neighbouring tokens for each thread, so that what needs the order of tokens is a sum
// over threads.
struct TokenRun {
  int begin;
  int end;
};

template <int kThreads>
__device__ TokenRun RunOfThread(int num_tokens) {
  const int length = (num_tokens + kThreads - 1) / kThreads;
  const int begin = static_cast<int>(threadIdx.x) * length;
  return {begin < num_tokens ? begin : num_tokens,
          begin + length < num_tokens ? begin + length : num_tokens};
}

// Calls keep(token) for the tokens of the thread's run that a cut keeps, in ascending order.
template <int kThreads, typename KeyFunction, typename KeepFunction>
__device__ void ForEachKept(int num_tokens, const RankCut& cut, const KeyFunction& key_of,
                            const KeepFunction& keep) {
  const TokenRun run = RunOfThread<kThreads>(num_tokens);
  Count equal = 0;
  for (int token = run.begin; token < run.end; ++token) equal += key_of(token) == cut.key;
  Count total;
  Count rank = PrefixSum<kThreads>(equal, total);
  for (int token = run.begin; token < run.end; ++token) {
    const uint32_t key = key_of(token);
    if (key > cut.key || (key == cut.key && rank++ < cut.num_equal)) keep(token);
  }
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_RANKED_CHOICE_H_
