// Of our own: the filters' order, what is reported beside the token, and the draw by (seed, choice,
// position) are those of kernels/sampling.h, the same on every device. FlashInfer draws by
// rejection from probabilities that are filtered before.
//
// Sampling, a block per task. Filters are cuts in the tokens' ranks, found by a radix select over
// the weights: by number for top_k, by weight for top_p. Weights are summed as integers, so that
// the same logits and the same draw always give the same token.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ranked_choice.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr float kLargest = 3.402823466e38f;

// Whether all logits are numbers below infinity.
__device__ bool HasNumbers(const float* logits, int vocab) {
  float bad = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
    if (!(logits[i] <= kLargest)) bad = 1;
  }
  return BlockMax<kThreads>(bad) == 0;
}

__device__ float MaxLogit(const float* logits, int vocab) {
  float max = kNegativeInfinity;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) max = fmaxf(max, logits[i]);
  return BlockMax<kThreads>(max);
}

__device__ float LogSumExp(const float* logits, int vocab, float max) {
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
    sum += exp2f((logits[i] - max) * kLog2E);
  }
  return max + logf(BlockSum<kThreads>(sum));
}

__device__ bool AdjustsLogits(const SampleTask& task) {
  return task.num_banned > 0 || task.num_biases > 0 || task.num_counts > 0;
}

// Bans, biases and penalties, in this order, on a copy of the row.
__device__ void AdjustLogits(const SampleArguments& a, const SampleTask& task, const float* logits,
                             float* adjusted) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < a.logits.cols; i += kThreads) adjusted[i] = logits[i];
  __syncthreads();
  const int32_t* const banned = a.lists + task.first_banned;
  for (int i = thread; i < task.num_banned; i += kThreads) {
    atomicExch(&adjusted[banned[i]], kNegativeInfinity);
  }
  __syncthreads();
  const auto* const biases = reinterpret_cast<const LogitBias*>(a.lists + task.first_bias);
  for (int i = thread; i < task.num_biases; i += kThreads) {
    atomicAdd(&adjusted[biases[i].token], biases[i].bias);
  }
  __syncthreads();
  const auto* const counts = reinterpret_cast<const TokenCount*>(a.lists + task.first_count);
  for (int i = thread; i < task.num_counts; i += kThreads) {  // a token is counted once
    const TokenCount& count = counts[i];
    float logit = adjusted[count.token];
    if (count.in_prompt > 0 || count.generated > 0) {
      logit = logit > 0 ? logit / task.repetition_penalty : logit * task.repetition_penalty;
    }
    logit -= task.frequency_penalty * static_cast<float>(count.generated);
    if (count.generated > 0) logit -= task.presence_penalty;
    adjusted[count.token] = logit;
  }
  __syncthreads();
}

// The lowest token with this logit.
__device__ int FirstToken(const float* logits, int vocab, float logit) {
  KVEC_SHARED_ARRAY(int, first, [1]);
  if (threadIdx.x == 0) first[0] = vocab;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < vocab; i += kThreads) {
    if (logits[i] == logit) {
      atomicMin(&first[0], i);
      break;
    }
  }
  __syncthreads();
  return first[0];
}

// 2^((logit - max) · scale) of the tokens: 1 for the largest.
class Weights {
 public:
  __device__ Weights(const float* logits, float max, float temperature)
      : logits_(logits), max_(max), scale_(fminf(kLog2E / temperature, kLargestScale)) {}

  __device__ float Weight(int token) const { return exp2f((logits_[token] - max_) * scale_); }
  __device__ uint32_t Key(int token) const { return KeyOf(Weight(token)); }
  // In units of 2^-40: a vocabulary of 2^23 tokens cannot overflow the sum.
  __device__ Count Mass(int token) const {
    constexpr float kUnits = 1099511627776.0f;
    return static_cast<Count>(Weight(token) * kUnits);
  }

 private:
  static constexpr float kLargestScale = 1e30f;  // 0 · scale must stay 0

  const float* const logits_;
  const float max_;
  const float scale_;
};

// Which tokens top_k and top_p leave.
__device__ RankCut CutOf(const SampleTask& task, const Weights& weights, int vocab) {
  const auto key_of = [&](int token) { return weights.Key(token); };
  RankCut cut{0, static_cast<Count>(vocab)};
  if (task.top_k > 0 && task.top_k < vocab) {
    cut = CutByMeasure<kThreads>(vocab, static_cast<Count>(task.top_k), key_of,
                                 [](int) { return Count{1}; });
  }
  if (task.top_p >= 1.0f) return cut;
  Count mass = 0;
  ForEachKept<kThreads>(vocab, cut, key_of, [&](int token) { mass += weights.Mass(token); });
  Count total;
  PrefixSum<kThreads>(mass, total);
  const Count wanted = static_cast<Count>(ceil(double{task.top_p} * static_cast<double>(total)));
  return CutByMeasure<kThreads>(vocab, wanted, key_of,
                                [&](int token) { return weights.Mass(token); });
}

__device__ int DrawToken(const SampleTask& task, const float* logits, int vocab, float max) {
  KVEC_SHARED_ARRAY(int, drawn, [1]);
  const Weights weights(logits, max, task.temperature);
  const RankCut cut = CutOf(task, weights, vocab);
  const auto key_of = [&](int token) { return weights.Key(token); };
  const auto mass_of = [&](int token) {
    return weights.Weight(token) < task.min_p ? Count{0} : weights.Mass(token);
  };
  Count mass = 0;
  ForEachKept<kThreads>(vocab, cut, key_of, [&](int token) { mass += mass_of(token); });
  Count total;
  const Count before = PrefixSum<kThreads>(mass, total);
  Count target = static_cast<Count>(task.uniform * static_cast<double>(total));
  if (target >= total) target = total - 1;  // rounding; the largest weight is in, so total > 0
  Count cumulative = before;
  ForEachKept<kThreads>(vocab, cut, key_of, [&](int token) {
    const Count own = mass_of(token);
    if (target >= cumulative && target < cumulative + own) drawn[0] = token;  // true for one token
    cumulative += own;
  });
  __syncthreads();
  return drawn[0];
}

// The num_logprobs tokens with the largest logits. Returns how many there are.
__device__ int CollectTop(const float* logits, int vocab, int num_logprobs, ScoredToken* top) {
  if (num_logprobs <= 0) return 0;
  const int count = num_logprobs < vocab ? num_logprobs : vocab;
  const auto key_of = [&](int token) { return KeyOf(logits[token]); };
  const RankCut cut = CutByMeasure<kThreads>(vocab, static_cast<Count>(count), key_of,
                                             [](int) { return Count{1}; });
  Count kept = 0;
  ForEachKept<kThreads>(vocab, cut, key_of, [&](int) { ++kept; });
  Count total;
  Count place = PrefixSum<kThreads>(kept, total);
  ForEachKept<kThreads>(vocab, cut, key_of, [&](int token) {
    top[place++] = {token, logits[token]};
  });
  return count;
}

// -1: none is left.
__device__ int ChooseToken(const SampleArguments& a, const SampleTask& task, const float* row,
                           float max) {
  const int vocab = a.logits.cols;
  const float* logits = row;
  if (AdjustsLogits(task)) {
    float* const adjusted =
        a.adjusted + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(vocab);
    AdjustLogits(a, task, row, adjusted);
    logits = adjusted;
    max = MaxLogit(logits, vocab);
  }
  if (max == kNegativeInfinity) return -1;
  return task.temperature == 0 ? FirstToken(logits, vocab, max)
                               : DrawToken(task, logits, vocab, max);
}

__global__ void __launch_bounds__(kThreads) SampleKernel(SampleArguments a) {
  const SampleTask task = a.tasks[blockIdx.x];
  if (task.row < 0) return;
  const float* const row = a.logits.data + task.row * a.logits.stride;
  const int vocab = a.logits.cols;
  SampleOutput output = {};
  output.has_numbers = HasNumbers(row, vocab) ? 1 : 0;
  if (output.has_numbers != 0) {
    const float max = MaxLogit(row, vocab);
    output.token = task.given_token >= 0 ? task.given_token : ChooseToken(a, task, row, max);
    if (task.num_logprobs >= 0 || task.given_token >= 0) {
      output.log_sum = LogSumExp(row, vocab, max);
      output.logit = output.token >= 0 ? row[output.token] : 0;
      output.num_top =
          CollectTop(row, vocab, task.num_logprobs,
                     a.top + static_cast<size_t>(blockIdx.x) * static_cast<size_t>(a.max_logprobs));
    }
  }
  if (threadIdx.x == 0) a.outputs[blockIdx.x] = output;
}

}  // namespace

cudaError_t Sample(cudaStream_t stream, const SampleArguments& arguments) {
  return Launch(stream, {static_cast<unsigned>(arguments.num_tasks), kThreads}, SampleKernel,
                arguments);
}

}  // namespace kvec::kernels::cuda
