#ifndef KVEC_COMMON_MODEL_ROPE_SCALING_H_
#define KVEC_COMMON_MODEL_ROPE_SCALING_H_

#include <vector>

#include "absl/status/statusor.h"

namespace kvec {

// Factors by which the frequencies of rotary embedding are divided, [head_dim / 2], for the ways
// that model files stretch a model's context. INVALID_ARGUMENT names a parameter out of range.

// Linear: every position counts 1 / factor.
absl::StatusOr<std::vector<float>> LinearFrequencyFactors(float factor, int head_dim);

struct Llama3RopeScaling {
  float factor = 0;
  float low_freq_factor = 0;
  float high_freq_factor = 0;
  float original_context_length = 0;
};

// Llama 3.1's: frequencies whose wavelength fits often into the original context stay, those that
// fit rarely are divided by `factor`, and those between go smoothly from one to the other.
absl::StatusOr<std::vector<float>> Llama3FrequencyFactors(const Llama3RopeScaling& scaling,
                                                          float theta, int head_dim);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_ROPE_SCALING_H_
