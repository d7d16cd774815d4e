#ifndef KVEC_KERNELS_CUDA_SAMPLE_H_
#define KVEC_KERNELS_CUDA_SAMPLE_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/sampling.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

struct LogitBias {
  int32_t token;
  float bias;
};

// kernels::SampleRequest with its lists in an array that all tasks share.
struct SampleTask {
  int32_t row;  // -1: there is none, nothing is to be done
  float temperature;
  int32_t top_k;  // 0: off
  float top_p;
  float min_p;
  float repetition_penalty;
  float frequency_penalty;
  float presence_penalty;
  // Words of SampleArguments::lists from which on there are so many TokenCounts, LogitBiases, and
  // tokens.
  int32_t first_count, num_counts;
  int32_t first_bias, num_biases;
  int32_t first_banned, num_banned;
  double uniform;        // the draw in [0, 1)
  int32_t num_logprobs;  // -1: not even the token's own
  int32_t given_token;   // >= 0: no draw
};

struct SampleOutput {
  int32_t token;        // -1: none is left to choose
  int32_t has_numbers;  // 0: a logit is NaN or +inf, and nothing else is valid
  float logit;          // of the token, as it was
  float log_sum;        // log Σ exp(logits)
  int32_t num_top;
};

struct ScoredToken {
  int32_t token;
  float logit;
};

struct SampleArguments {
  Tensor logits;  // [m, vocab]
  const SampleTask* tasks = nullptr;
  int num_tasks = 0;
  const int32_t* lists = nullptr;
  float* adjusted = nullptr;        // [num_tasks, vocab]: room to work in
  SampleOutput* outputs = nullptr;  // [num_tasks]
  int max_logprobs = 0;
  ScoredToken* top = nullptr;  // [num_tasks, max_logprobs], in ascending order of tokens
};

// One token per task; see kernels/sampling.h for the order of what is done. Weights below 2^-40 of
// the largest count as 0.
cudaError_t Sample(cudaStream_t stream, const SampleArguments& arguments);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SAMPLE_H_
