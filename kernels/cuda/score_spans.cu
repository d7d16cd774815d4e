// Spans and decayed maxima of kvec's score, which no library has.
//
// ScoreSpans reads the weights of a tile and of what reaches into it, 3.1 tiles, most of them from
// the L2 cache, and writes the tile: from the GPU's memory 4 n · 2 num_kv_heads bytes. A thread has
// a run of tokens.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/score_spans.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// A block scores a tile of one head's tokens. It looks at a window around it, in which each thread
// has a run of neighbouring tokens: an odd number, so that the threads of a warp read different
// banks of shared memory.
constexpr int kRun = 25;
constexpr int kWindow = kThreads * kRun;
constexpr int kTile = 2048;
constexpr int kReach = (kWindow - kTile) / 2;
static_assert(kReach >= kMaxDecayTokens && kReach >= kMaxSpanTokens);

// Tokens that a block's tokens share a span with, from kMaxSpanTokens before its tile on.
constexpr int kSpanTokens = kTile + 2 * kMaxSpanTokens;

// The maximum as it decays over a thread's run, from `carry` on, in the direction of kStep. Calls
// visit(token of the window, maximum).
template <int kStep, typename VisitFunction>
__device__ float DecayOverRun(const float* window, float decay, float carry,
                              const VisitFunction& visit) {
  const int begin = static_cast<int>(threadIdx.x) * kRun;
  float maximum = carry;
  for (int i = 0; i < kRun; ++i) {
    const int token = kStep > 0 ? begin + i : begin + kRun - 1 - i;
    maximum = fmaxf(window[token], __fmul_rn(decay, maximum));
    visit(token, maximum);
  }
  return maximum;
}

// What comes into each thread's run from those before it. A maximum that outlasts a whole run is
// handed on in one more round: most fall below the next runs' own weights after a few.
template <int kStep>
__device__ float CarryIn(const float* window, float decay) {
  KVEC_SHARED_ARRAY(float, carries, [kThreads]);
  KVEC_SHARED_ARRAY(int, has_changed, [2]);
  const int thread = static_cast<int>(threadIdx.x);
  const int before = thread - kStep;
  const bool is_first = before < 0 || before >= kThreads;
  const auto ignore = [](int, float) {};
  __syncthreads();  // who still reads earlier carries
  carries[thread] = DecayOverRun<kStep>(window, decay, 0.0f, ignore);
  if (thread == 0) has_changed[0] = has_changed[1] = 0;
  __syncthreads();
  float carry = 0;
  for (int round = 0;; ++round) {
    const float next = is_first ? 0.0f : carries[before];
    float out = carries[thread];
    if (next > carry) {
      carry = next;
      out = DecayOverRun<kStep>(window, decay, carry, ignore);
    }
    __syncthreads();  // all have read
    if (out > carries[thread]) {
      carries[thread] = out;
      has_changed[round % 2] = 1;
    }
    if (thread == 0) has_changed[(round + 1) % 2] = 0;
    __syncthreads();
    if (has_changed[round % 2] == 0) break;
  }
  return carry;
}

// best[span's first token - first]: the largest weight in each span that has tokens in the tile.
// Weights are not negative: their bits order as they do.
__device__ void FindSpanMaxima(const SpanScoreArguments& a, const float* window, int window_begin,
                               int first, int* best) {
  for (int i = static_cast<int>(threadIdx.x); i < kSpanTokens; i += kThreads) best[i] = 0;
  __syncthreads();
  const int end = min(first + kSpanTokens, a.num_candidates);
  const int run_begin = window_begin + static_cast<int>(threadIdx.x) * kRun;
  int slot = -1;
  float maximum = 0;
  const auto flush = [&] {
    if (slot >= 0) atomicMax(&best[slot], __float_as_int(maximum));
  };
  for (int t = max(run_begin, max(first, 0)); t < min(run_begin + kRun, end); ++t) {
    const int own = a.span_begins[t] - first;
    if (own != slot) {
      flush();
      slot = own;
      maximum = 0;
    }
    maximum = fmaxf(maximum, window[t - window_begin]);
  }
  flush();
  __syncthreads();
}

// Grid [tiles, num_kv_heads].
__global__ void __launch_bounds__(kThreads) ScoreSpansKernel(SpanScoreArguments a) {
  KVEC_SHARED_ARRAY(float, window, [kWindow]);
  KVEC_SHARED_ARRAY(float, decayed, [kTile]);
  KVEC_SHARED_ARRAY(int, best, [kSpanTokens]);
  const int n = a.num_candidates;
  const int tile_begin = static_cast<int>(blockIdx.x) * kTile;
  const int window_begin = tile_begin - kReach;
  const size_t row = static_cast<size_t>(blockIdx.y) * static_cast<size_t>(n);
  for (int i = static_cast<int>(threadIdx.x); i < kWindow; i += kThreads) {
    const int t = window_begin + i;
    window[i] = t >= 0 && t < n ? a.weights[row + static_cast<size_t>(t)] : 0.0f;
  }
  FindSpanMaxima(a, window, window_begin, tile_begin - kMaxSpanTokens, best);

  const float forward = CarryIn<1>(window, a.decay);
  DecayOverRun<1>(window, a.decay, forward, [&](int token, float maximum) {
    const int i = token - kReach;
    if (i >= 0 && i < kTile) decayed[i] = maximum;
  });
  const float backward = CarryIn<-1>(window, a.decay);
  DecayOverRun<-1>(window, a.decay, backward, [&](int token, float maximum) {
    const int i = token - kReach;
    if (i >= 0 && i < kTile) decayed[i] = fmaxf(decayed[i], maximum);
  });
  __syncthreads();
  const int count = min(kTile, n - tile_begin);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const int t = tile_begin + i;
    const int slot = a.span_begins[t] - (tile_begin - kMaxSpanTokens);
    const float of_span = __fmul_rn(a.span_floor, __int_as_float(best[slot]));
    a.scores[row + static_cast<size_t>(t)] =
        __fadd_rn(fmaxf(window[i + kReach], of_span), __fmul_rn(a.tie_break, decayed[i]));
  }
}

}  // namespace

cudaError_t ScoreSpans(cudaStream_t stream, const SpanScoreArguments& arguments) {
  const dim3 grid(static_cast<unsigned>(DivideUp(arguments.num_candidates, kTile)),
                  static_cast<unsigned>(arguments.num_kv_heads));
  return Launch(stream, {grid, kThreads}, ScoreSpansKernel, arguments);
}

}  // namespace kvec::kernels::cuda
