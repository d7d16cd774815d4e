#include "common/model/hf_config.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/hf_rope.h"
#include "common/model/json_fields.h"
#include "common/model/model_limits.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

using nlohmann::json;

// Where transformers' configuration classes differ in what a missing field means. 0: the field must
// be there, or follows from others.
struct Defaults {
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_layers = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int context_length = 0;
  bool tie_word_embeddings = false;
};

// The published gemma3 configurations leave out what equals the default.
constexpr Defaults kGemma3Defaults = {2304, 9216, 26, 8, 4, 256, 262208, 131072, true};
constexpr Defaults kQwen3Defaults = {.head_dim = 128};

const Defaults& DefaultsOf(ModelFamily family) {
  static constexpr Defaults kNone;
  switch (family) {
    case ModelFamily::kQwen3:
      return kQwen3Defaults;
    case ModelFamily::kGemma3:
      return kGemma3Defaults;
    default:
      return kNone;
  }
}

absl::StatusOr<ModelFamily> FamilyOf(absl::string_view model_type) {
  if (model_type == "llama" || model_type == "mistral") return ModelFamily::kLlama;
  if (model_type == "qwen2") return ModelFamily::kQwen2;
  if (model_type == "qwen3") return ModelFamily::kQwen3;
  if (model_type == "gemma3_text") return ModelFamily::kGemma3;
  return absl::InvalidArgumentError(
      absl::StrCat("model_type: ", Quoted(model_type),
                   " is not supported; known: llama, mistral, qwen2, qwen3, gemma3, gemma3_text"));
}

absl::StatusOr<int> ReadSize(const JsonFields& fields, absl::string_view field, int missing,
                             int64_t max) {
  if (missing > 0 && !fields.Has(field)) return missing;
  KVEC_ASSIGN_OR_RETURN(const int64_t size, fields.Int(field, 1, max));
  return static_cast<int>(size);
}

// hidden_size and num_heads of `config` must be set.
absl::StatusOr<int> ReadHeadDim(const JsonFields& fields, int missing, const ModelConfig& config) {
  if (fields.Has("head_dim") || missing > 0) {
    return ReadSize(fields, "head_dim", missing, kMaxHeadDim);
  }
  if (config.num_heads > config.hidden_size) {
    return absl::InvalidArgumentError(absl::StrCat("num_attention_heads: is ", config.num_heads,
                                                   ", more than hidden_size ", config.hidden_size));
  }
  return config.hidden_size / config.num_heads;
}

absl::Status ReadSizes(const JsonFields& fields, ModelConfig& config) {
  const Defaults& missing = DefaultsOf(config.family);
  KVEC_ASSIGN_OR_RETURN(config.hidden_size,
                        ReadSize(fields, "hidden_size", missing.hidden_size, kMaxHiddenSize));
  KVEC_ASSIGN_OR_RETURN(
      config.intermediate_size,
      ReadSize(fields, "intermediate_size", missing.intermediate_size, kMaxHiddenSize));
  KVEC_ASSIGN_OR_RETURN(config.num_layers,
                        ReadSize(fields, "num_hidden_layers", missing.num_layers, kMaxLayers));
  KVEC_ASSIGN_OR_RETURN(config.num_heads,
                        ReadSize(fields, "num_attention_heads", missing.num_heads, kMaxHeads));
  const int num_kv_heads = missing.num_kv_heads > 0 ? missing.num_kv_heads : config.num_heads;
  KVEC_ASSIGN_OR_RETURN(config.num_kv_heads,
                        ReadSize(fields, "num_key_value_heads", num_kv_heads, kMaxHeads));
  KVEC_ASSIGN_OR_RETURN(config.head_dim, ReadHeadDim(fields, missing.head_dim, config));
  KVEC_ASSIGN_OR_RETURN(config.vocab_size,
                        ReadSize(fields, "vocab_size", missing.vocab_size, kMaxVocabSize));
  KVEC_ASSIGN_OR_RETURN(config.context_length, ReadSize(fields, "max_position_embeddings",
                                                        missing.context_length, kMaxContextLength));
  KVEC_ASSIGN_OR_RETURN(config.rms_norm_eps, fields.FloatOr("rms_norm_eps", 1e-6f));
  return absl::OkStatus();
}

absl::Status ReadActivation(const JsonFields& fields, ModelConfig& config) {
  const bool is_gemma3 = config.family == ModelFamily::kGemma3;
  const absl::string_view field = is_gemma3 ? "hidden_activation" : "hidden_act";
  KVEC_ASSIGN_OR_RETURN(const std::string name,
                        fields.StringOr(field, is_gemma3 ? "gelu_pytorch_tanh" : "silu"));
  if (name == "silu" || name == "swish") {
    config.activation = Activation::kSilu;
  } else if (name == "gelu_pytorch_tanh") {
    config.activation = Activation::kGeluTanh;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        field, ": ", Quoted(name), " is not supported; known: silu, gelu_pytorch_tanh"));
  }
  return absl::OkStatus();
}

// Switches of the known families that none of the published models turns on.
absl::Status CheckUnsupported(const JsonFields& fields, ModelFamily family) {
  for (const absl::string_view field :
       {"attention_bias", "mlp_bias", "use_bidirectional_attention"}) {
    if (family == ModelFamily::kQwen2 && field == "attention_bias") continue;  // not read there
    KVEC_ASSIGN_OR_RETURN(const bool on, fields.BoolOr(field, false));
    if (on) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": is true, which is not supported"));
    }
  }
  for (const absl::string_view field :
       {"quantization_config", "final_logit_softcapping", "attn_logit_softcapping"}) {
    if (fields.Has(field)) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": is set, which is not supported"));
    }
  }
  return absl::OkStatus();
}

// Tokens in the window of those layers that have one, or 0.
absl::StatusOr<int64_t> ReadWindow(const JsonFields& fields, absl::string_view model_type) {
  int64_t missing = 0;
  if (model_type == "gemma3_text" || model_type == "mistral") missing = 4096;
  // Mistral since 0.2 says null.
  if (fields.IsNull("sliding_window") || model_type == "llama") return 0;
  if (absl::StartsWith(model_type, "qwen")) {
    KVEC_ASSIGN_OR_RETURN(const bool on, fields.BoolOr("use_sliding_window", false));
    if (!on) return 0;
    missing = 4096;
  }
  return fields.IntOr("sliding_window", missing, 1, kMaxContextLength);
}

// layer_types: ["sliding_attention", …, "full_attention"].
absl::Status ReadLayerTypes(const json& layer_types, int window, ModelConfig& config) {
  if (!layer_types.is_array() || layer_types.size() != static_cast<size_t>(config.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("layer_types: has ", layer_types.size(),
                                                   " elements, must be an array of ",
                                                   config.num_layers));
  }
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const json& type = layer_types[layer];
    if (type == "sliding_attention") {
      config.sliding_windows[layer] = window;
    } else if (type != "full_attention") {
      return absl::InvalidArgumentError(absl::StrCat(
          "layer_types[", layer, "]: is not supported; known: full_attention, sliding_attention"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSlidingWindows(const JsonFields& fields, absl::string_view model_type,
                                ModelConfig& config) {
  config.sliding_windows.assign(config.num_layers, 0);
  KVEC_ASSIGN_OR_RETURN(int64_t window, ReadWindow(fields, model_type));
  // A window as wide as the context hides nothing.
  if (window == 0 || window >= config.context_length) return absl::OkStatus();
  if (model_type == "mistral") {
    config.sliding_windows.assign(config.num_layers, static_cast<int>(window));
    return absl::OkStatus();
  }
  if (const json* layer_types = fields.Find("layer_types")) {
    return ReadLayerTypes(*layer_types, static_cast<int>(window), config);
  }
  if (config.family == ModelFamily::kGemma3) {
    const bool has_old_name = fields.Has("_sliding_window_pattern");
    KVEC_ASSIGN_OR_RETURN(
        const int64_t period,
        fields.IntOr(has_old_name ? "_sliding_window_pattern" : "sliding_window_pattern", 6, 1,
                     kMaxLayers));
    for (int layer = 0; layer < config.num_layers; ++layer) {
      if ((layer + 1) % period != 0) config.sliding_windows[layer] = static_cast<int>(window);
    }
    return absl::OkStatus();
  }
  KVEC_ASSIGN_OR_RETURN(const int64_t first, fields.IntOr("max_window_layers", 28, 0, kMaxLayers));
  for (int64_t layer = first; layer < config.num_layers; ++layer) {
    config.sliding_windows[layer] = static_cast<int>(window);
  }
  return absl::OkStatus();
}

absl::Status ReadScales(const JsonFields& fields, ModelConfig& config) {
  auto scaled_dim = static_cast<float>(config.head_dim);
  if (config.family == ModelFamily::kGemma3) {
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
    KVEC_ASSIGN_OR_RETURN(scaled_dim, fields.FloatOr("query_pre_attn_scalar", 256.0f));
  }
  if (!(scaled_dim > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("query_pre_attn_scalar: is ", scaled_dim, ", must be positive"));
  }
  config.attention_scale = 1.0f / std::sqrt(scaled_dim);
  return absl::OkStatus();
}

absl::StatusOr<ModelConfig> ReadLanguageModel(const JsonFields& fields,
                                              absl::string_view model_type) {
  ModelConfig config;
  KVEC_ASSIGN_OR_RETURN(config.family, FamilyOf(model_type));
  KVEC_RETURN_IF_ERROR(CheckUnsupported(fields, config.family));
  KVEC_RETURN_IF_ERROR(ReadSizes(fields, config));
  KVEC_RETURN_IF_ERROR(ReadActivation(fields, config));
  KVEC_RETURN_IF_ERROR(ReadHfRope(fields, config));
  KVEC_RETURN_IF_ERROR(ReadSlidingWindows(fields, model_type, config));
  KVEC_RETURN_IF_ERROR(ReadScales(fields, config));
  KVEC_ASSIGN_OR_RETURN(
      config.tie_word_embeddings,
      fields.BoolOr("tie_word_embeddings", DefaultsOf(config.family).tie_word_embeddings));
  config.rope_pairing = RopePairing::kHalves;
  config.has_attention_bias = config.family == ModelFamily::kQwen2;
  config.has_qk_norm =
      config.family == ModelFamily::kQwen3 || config.family == ModelFamily::kGemma3;
  config.has_post_norms = config.family == ModelFamily::kGemma3;
  return config;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadHfConfig(const json& config_json) {
  KVEC_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(config_json, ""));
  KVEC_ASSIGN_OR_RETURN(const std::string model_type, fields.String("model_type"));
  if (model_type != "gemma3") return ReadLanguageModel(fields, model_type);
  // With images: the language model has an object of its own.
  KVEC_ASSIGN_OR_RETURN(const JsonFields text, fields.Object("text_config"));
  return ReadLanguageModel(text, "gemma3_text");
}

}  // namespace kvec
