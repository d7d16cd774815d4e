#ifndef KVEC_KERNELS_SAMPLING_H_
#define KVEC_KERNELS_SAMPLING_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kvec::kernels {

// How often a token occurs in the prompt and among the generated tokens: what penalties need.
struct TokenCount {
  int32_t token;
  int32_t in_prompt;
  int32_t generated;
};

// What to do with one row of logits, in this order (vLLM's and Hugging Face's, too):
//   log-probabilities are taken of the logits as they are;
//   banned tokens get probability 0; logit_bias is added;
//   repetition (over prompt and generated), frequency and presence penalties (generated only);
//   temperature; top_k, top_p, min_p on the probabilities; a draw by (seed, choice, position).
// temperature 0 takes the largest (ties: the lowest token id).
struct SampleRequest {
  int row = 0;  // of the logits
  float temperature = 1.0f;
  int top_k = 0;  // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float frequency_penalty = 0.0f;
  float presence_penalty = 0.0f;
  absl::Span<const TokenCount> counts{};
  absl::Span<const std::pair<int32_t, float>> logit_bias{};
  absl::Span<const int32_t> banned{};
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint32_t position = 0;  // of the token to be sampled
  int num_logprobs = -1;  // alternatives to report; -1: not even the token's own
  int32_t given_token = -1;  // >= 0: no draw, only this token's log-probability
};

struct SampleResult {
  int32_t token = 0;
  float log_prob = 0;  // natural logarithm; valid when num_logprobs >= 0
  std::vector<std::pair<int32_t, float>> top;  // falling; ties: the lower token id
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_SAMPLING_H_
