#include "common/model/rope_scaling.h"

#include <cmath>
#include <numbers>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec {

absl::StatusOr<std::vector<float>> LinearFrequencyFactors(float factor, int head_dim) {
  if (!std::isfinite(factor) || factor <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("factor: is ", factor, ", must be positive and finite"));
  }
  if (factor == 1.0f) return std::vector<float>();
  return std::vector<float>(head_dim / 2, factor);
}

absl::StatusOr<std::vector<float>> Llama3FrequencyFactors(const Llama3RopeScaling& scaling,
                                                          float theta, int head_dim) {
  if (!(scaling.factor > 0) || !(scaling.low_freq_factor > 0) ||
      !(scaling.high_freq_factor > scaling.low_freq_factor) ||
      !(scaling.original_context_length > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("llama3 scaling: factor ", scaling.factor, ", low_freq_factor ",
                     scaling.low_freq_factor, ", high_freq_factor ", scaling.high_freq_factor,
                     ", original_max_position_embeddings ", scaling.original_context_length,
                     ": all must be positive, and high_freq_factor above low_freq_factor"));
  }
  std::vector<float> factors(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(static_cast<double>(theta), -2.0 * i / head_dim);
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    const double turns = scaling.original_context_length / wavelength;
    if (turns < scaling.low_freq_factor) {
      factors[i] = scaling.factor;
    } else if (turns > scaling.high_freq_factor) {
      factors[i] = 1.0f;
    } else {
      const double smooth =
          (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
      factors[i] = static_cast<float>(1.0 / ((1.0 - smooth) / scaling.factor + smooth));
    }
  }
  return factors;
}

}  // namespace kvec
