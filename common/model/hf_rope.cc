#include "common/model/hf_rope.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/rope_scaling.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

constexpr float kDefaultTheta = 10000.0f;
constexpr float kGemma3GlobalTheta = 1000000.0f;

absl::StatusOr<std::vector<float>> ReadLlama3Scaling(const JsonFields& scaling, float theta,
                                                     int head_dim) {
  Llama3RopeScaling parameters;
  KVEC_ASSIGN_OR_RETURN(parameters.factor, scaling.Float("factor"));
  KVEC_ASSIGN_OR_RETURN(parameters.low_freq_factor, scaling.Float("low_freq_factor"));
  KVEC_ASSIGN_OR_RETURN(parameters.high_freq_factor, scaling.Float("high_freq_factor"));
  KVEC_ASSIGN_OR_RETURN(parameters.original_context_length,
                        scaling.Float("original_max_position_embeddings"));
  return Llama3FrequencyFactors(parameters, theta, head_dim);
}

// `scaling` is a rope_scaling object or one of rope_parameters.
absl::StatusOr<std::vector<float>> ReadScaling(const JsonFields& scaling, float theta,
                                               int head_dim) {
  KVEC_ASSIGN_OR_RETURN(const std::string old_type, scaling.StringOr("type", "default"));
  KVEC_ASSIGN_OR_RETURN(const std::string type, scaling.StringOr("rope_type", old_type));
  KVEC_ASSIGN_OR_RETURN(const float rotated, scaling.FloatOr("partial_rotary_factor", 1.0f));
  if (rotated != 1.0f) {
    return absl::InvalidArgumentError(
        absl::StrCat(scaling.Name("partial_rotary_factor"), ": is ", rotated,
                     ", rotary embedding of a part of the head is not supported"));
  }
  if (type == "default") return std::vector<float>();
  if (type == "llama3") return ReadLlama3Scaling(scaling, theta, head_dim);
  if (type == "linear") {
    KVEC_ASSIGN_OR_RETURN(const float factor, scaling.Float("factor"));
    absl::StatusOr<std::vector<float>> factors = LinearFrequencyFactors(factor, head_dim);
    if (!factors.ok()) return Annotate(factors.status(), scaling.Name("rope"));
    return factors;
  }
  return absl::InvalidArgumentError(absl::StrCat(scaling.Name("rope_type"), ": ", Quoted(type),
                                                 " is not supported; known: default, linear, "
                                                 "llama3"));
}

absl::StatusOr<RopeConfig> ReadParameters(const JsonFields& parameters, float default_theta,
                                          int head_dim) {
  RopeConfig rope;
  KVEC_ASSIGN_OR_RETURN(rope.theta, parameters.FloatOr("rope_theta", default_theta));
  KVEC_ASSIGN_OR_RETURN(rope.frequency_factors, ReadScaling(parameters, rope.theta, head_dim));
  return rope;
}

// transformers 5: one object, or one for each kind of layer.
absl::Status ReadRopeParameters(const JsonFields& fields, float global_theta, float local_theta,
                                ModelConfig& config) {
  KVEC_ASSIGN_OR_RETURN(const JsonFields parameters, fields.Object("rope_parameters"));
  if (!parameters.Has("full_attention")) {
    KVEC_ASSIGN_OR_RETURN(config.rope, ReadParameters(parameters, global_theta, config.head_dim));
    config.local_rope = config.rope;
    return absl::OkStatus();
  }
  KVEC_ASSIGN_OR_RETURN(const JsonFields global, parameters.Object("full_attention"));
  KVEC_ASSIGN_OR_RETURN(config.rope, ReadParameters(global, global_theta, config.head_dim));
  KVEC_ASSIGN_OR_RETURN(const JsonFields local, parameters.Object("sliding_attention"));
  KVEC_ASSIGN_OR_RETURN(config.local_rope, ReadParameters(local, local_theta, config.head_dim));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfRope(const JsonFields& fields, ModelConfig& config) {
  const bool is_gemma3 = config.family == ModelFamily::kGemma3;
  KVEC_ASSIGN_OR_RETURN(
      config.rope.theta,
      fields.FloatOr("rope_theta", is_gemma3 ? kGemma3GlobalTheta : kDefaultTheta));
  KVEC_ASSIGN_OR_RETURN(const float local_theta,
                        fields.FloatOr("rope_local_base_freq", kDefaultTheta));
  if (fields.Has("rope_parameters")) {
    return ReadRopeParameters(fields, config.rope.theta, local_theta, config);
  }
  if (fields.Has("rope_scaling")) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields scaling, fields.Object("rope_scaling"));
    KVEC_ASSIGN_OR_RETURN(config.rope.frequency_factors,
                          ReadScaling(scaling, config.rope.theta, config.head_dim));
  }
  if (is_gemma3) {
    config.local_rope.theta = local_theta;  // scaling is for the global layers alone
  } else {
    config.local_rope = config.rope;
  }
  return absl::OkStatus();
}

}  // namespace kvec
