#include "common/model/model_limits.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

absl::Status CheckSize(absl::string_view field, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": is ", value, ", must be in 1 … ", max));
}

absl::Status CheckPositive(absl::string_view field, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": is ", value, ", must be positive and finite"));
}

absl::Status CheckRope(absl::string_view field, const RopeConfig& rope, int head_dim) {
  KVEC_RETURN_IF_ERROR(CheckPositive(absl::StrCat(field, ".theta"), rope.theta));
  const std::vector<float>& factors = rope.frequency_factors;
  if (!factors.empty() && factors.size() != static_cast<size_t>(head_dim) / 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ".frequency_factors: has ", factors.size(), " elements, head_dim is ", head_dim));
  }
  for (const float factor : factors) {
    KVEC_RETURN_IF_ERROR(CheckPositive(absl::StrCat(field, ".frequency_factors"), factor));
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const ModelConfig& config) {
  KVEC_RETURN_IF_ERROR(CheckSize("num_layers", config.num_layers, kMaxLayers));
  KVEC_RETURN_IF_ERROR(CheckSize("hidden_size", config.hidden_size, kMaxHiddenSize));
  KVEC_RETURN_IF_ERROR(CheckSize("intermediate_size", config.intermediate_size, kMaxHiddenSize));
  KVEC_RETURN_IF_ERROR(CheckSize("num_heads", config.num_heads, kMaxHeads));
  KVEC_RETURN_IF_ERROR(CheckSize("num_kv_heads", config.num_kv_heads, kMaxHeads));
  KVEC_RETURN_IF_ERROR(CheckSize("head_dim", config.head_dim, kMaxHeadDim));
  KVEC_RETURN_IF_ERROR(CheckSize("num_heads × head_dim",
                                 int64_t{config.num_heads} * config.head_dim, kMaxHiddenSize));
  KVEC_RETURN_IF_ERROR(CheckSize("vocab_size", config.vocab_size, kMaxVocabSize));
  return CheckSize("context_length", config.context_length, kMaxContextLength);
}

}  // namespace

absl::Status CheckModelConfig(const ModelConfig& config) {
  KVEC_RETURN_IF_ERROR(CheckSizes(config));
  if (config.num_heads % config.num_kv_heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("num_kv_heads: is ", config.num_kv_heads,
                                                   ", does not divide num_heads ",
                                                   config.num_heads));
  }
  if (config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim: is ", config.head_dim, ", must be even for rotary embedding"));
  }
  KVEC_RETURN_IF_ERROR(CheckPositive("rms_norm_eps", config.rms_norm_eps));
  KVEC_RETURN_IF_ERROR(CheckPositive("embedding_scale", config.embedding_scale));
  KVEC_RETURN_IF_ERROR(CheckPositive("attention_scale", config.attention_scale));
  KVEC_RETURN_IF_ERROR(CheckRope("rope", config.rope, config.head_dim));
  KVEC_RETURN_IF_ERROR(CheckRope("local_rope", config.local_rope, config.head_dim));
  if (config.sliding_windows.size() != static_cast<size_t>(config.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("sliding_windows: has ",
                                                   config.sliding_windows.size(),
                                                   " elements, num_layers is ", config.num_layers));
  }
  for (const int window : config.sliding_windows) {
    if (window < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("sliding_windows: has ", window, ", must not be negative"));
    }
  }
  return absl::OkStatus();
}

}  // namespace kvec
