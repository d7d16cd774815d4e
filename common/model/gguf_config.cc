#include "common/model/gguf_config.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/model_limits.h"
#include "common/model/rope_scaling.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"

namespace kvec {
namespace {

// The metadata of one architecture: most keys begin with its name.
class ArchitectureKeys {
 public:
  ArchitectureKeys(const GgufMetadata& metadata, std::string architecture)
      : metadata_(metadata), architecture_(std::move(architecture)) {}

  std::string Key(absl::string_view suffix) const {
    return absl::StrCat(architecture_, ".", suffix);
  }
  bool Has(absl::string_view suffix) const { return metadata_.Has(Key(suffix)); }

  absl::StatusOr<int> Size(absl::string_view suffix, int64_t max) const {
    KVEC_ASSIGN_OR_RETURN(const int64_t size, metadata_.Int(Key(suffix), 1, max));
    return static_cast<int>(size);
  }
  absl::StatusOr<int> IntOr(absl::string_view suffix, int64_t missing, int64_t max) const {
    KVEC_ASSIGN_OR_RETURN(const int64_t value, metadata_.IntOr(Key(suffix), missing, 0, max));
    return static_cast<int>(value);
  }
  absl::StatusOr<float> Float(absl::string_view suffix) const {
    return metadata_.Float(Key(suffix));
  }
  absl::StatusOr<float> FloatOr(absl::string_view suffix, float missing) const {
    return metadata_.FloatOr(Key(suffix), missing);
  }
  absl::StatusOr<std::string> StringOr(absl::string_view suffix, absl::string_view missing) const {
    return metadata_.StringOr(Key(suffix), missing);
  }

  // INVALID_ARGUMENT when the key is there with another value than `expected`.
  absl::Status CheckIs(absl::string_view suffix, int expected, absl::string_view why) const {
    KVEC_ASSIGN_OR_RETURN(const int value, IntOr(suffix, expected, INT32_MAX));
    if (value == expected) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(Key(suffix), ": is ", value, ", must be ", expected, ": ", why));
  }

 private:
  const GgufMetadata& metadata_;
  const std::string architecture_;
};

absl::StatusOr<ModelFamily> FamilyOf(absl::string_view architecture) {
  for (const ModelFamily family :
       {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3, ModelFamily::kGemma3}) {
    if (architecture == ModelFamilyName(family)) return family;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("general.architecture: ", Quoted(architecture),
                   " is not supported; known: ", KnownModelFamilyNames()));
}

const FileTensor* FindTensor(const GgufFile& file, absl::string_view name) {
  for (const FileTensor& tensor : file.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

absl::Status ReadSizes(const ArchitectureKeys& keys, ModelConfig& config) {
  KVEC_ASSIGN_OR_RETURN(config.num_layers, keys.Size("block_count", kMaxLayers));
  KVEC_ASSIGN_OR_RETURN(config.hidden_size, keys.Size("embedding_length", kMaxHiddenSize));
  KVEC_ASSIGN_OR_RETURN(config.intermediate_size, keys.Size("feed_forward_length", kMaxHiddenSize));
  KVEC_ASSIGN_OR_RETURN(config.context_length, keys.Size("context_length", kMaxContextLength));
  KVEC_ASSIGN_OR_RETURN(config.num_heads, keys.Size("attention.head_count", kMaxHeads));
  config.num_kv_heads = config.num_heads;
  if (keys.Has("attention.head_count_kv")) {
    KVEC_ASSIGN_OR_RETURN(config.num_kv_heads, keys.Size("attention.head_count_kv", kMaxHeads));
  }
  KVEC_ASSIGN_OR_RETURN(
      config.head_dim,
      keys.IntOr("attention.key_length", config.hidden_size / config.num_heads, kMaxHeadDim));
  KVEC_RETURN_IF_ERROR(keys.CheckIs("attention.value_length", config.head_dim,
                                    "keys and values must be of one length"));
  KVEC_RETURN_IF_ERROR(keys.CheckIs("rope.dimension_count", config.head_dim,
                                    "rotary embedding of a part of the head is not supported"));
  KVEC_RETURN_IF_ERROR(keys.CheckIs("expert_count", 0, "mixtures of experts are not supported"));
  KVEC_ASSIGN_OR_RETURN(config.rms_norm_eps, keys.Float("attention.layer_norm_rms_epsilon"));
  return absl::OkStatus();
}

// The linear scaling that the metadata asks for; empty for none.
absl::StatusOr<std::vector<float>> ReadRopeScaling(const ArchitectureKeys& keys, int head_dim) {
  KVEC_ASSIGN_OR_RETURN(const std::string type, keys.StringOr("rope.scaling.type", "linear"));
  if (type == "none") return std::vector<float>();
  if (type != "linear") {
    return absl::InvalidArgumentError(absl::StrCat(keys.Key("rope.scaling.type"), ": ",
                                                   Quoted(type),
                                                   " is not supported; known: none, linear"));
  }
  // Old files have rope.scale_linear instead.
  KVEC_ASSIGN_OR_RETURN(const float old_factor, keys.FloatOr("rope.scale_linear", 1.0f));
  KVEC_ASSIGN_OR_RETURN(const float factor, keys.FloatOr("rope.scaling.factor", old_factor));
  absl::StatusOr<std::vector<float>> factors = LinearFrequencyFactors(factor, head_dim);
  if (!factors.ok()) return Annotate(factors.status(), keys.Key("rope.scaling.factor"));
  return factors;
}

// Llama 3's files carry their scaling as a tensor.
absl::StatusOr<std::vector<float>> ReadRopeFreqs(const FileTensor& tensor, int head_dim) {
  if (tensor.type != TensorType::kF32 || tensor.shape != std::vector<int64_t>{head_dim / 2}) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor rope_freqs.weight: is ", GetTraits(tensor.type).name, " ",
                     ShapeText(tensor.shape), ", must be F32 [", head_dim / 2, "]"));
  }
  std::vector<float> factors(head_dim / 2);
  Dequantize(tensor.type, tensor.data, absl::MakeSpan(factors));
  return factors;
}

absl::Status ReadRope(const ArchitectureKeys& keys, const GgufFile& file, ModelConfig& config) {
  KVEC_ASSIGN_OR_RETURN(config.rope.theta, keys.FloatOr("rope.freq_base", 10000.0f));
  KVEC_ASSIGN_OR_RETURN(config.rope.frequency_factors, ReadRopeScaling(keys, config.head_dim));
  if (const FileTensor* tensor = FindTensor(file, "rope_freqs.weight")) {
    if (!config.rope.frequency_factors.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          keys.Key("rope.scaling.factor"), ": cannot be combined with tensor rope_freqs.weight"));
    }
    KVEC_ASSIGN_OR_RETURN(config.rope.frequency_factors, ReadRopeFreqs(*tensor, config.head_dim));
  }
  config.local_rope = config.rope;
  return absl::OkStatus();
}

// A window as wide as the context hides nothing.
absl::StatusOr<int> ReadSlidingWindow(const ArchitectureKeys& keys, const ModelConfig& config) {
  KVEC_ASSIGN_OR_RETURN(const int window,
                        keys.IntOr("attention.sliding_window", 0, kMaxContextLength));
  return window < config.context_length ? window : 0;
}

absl::Status ReadGemma3(const ArchitectureKeys& keys, ModelConfig& config) {
  config.activation = Activation::kGeluTanh;
  config.has_qk_norm = true;
  config.has_post_norms = true;
  config.embedding_scale = std::sqrt(static_cast<float>(config.hidden_size));
  // The file does not say so, but the 27B model, the only one with 62 layers, was trained with
  // another scale than the others.
  const int scaled_dim =
      config.num_layers == 62 ? config.hidden_size / config.num_heads : config.head_dim;
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(scaled_dim));

  // Scaling is for the global layers alone.
  config.local_rope = RopeConfig();
  KVEC_ASSIGN_OR_RETURN(config.local_rope.theta, keys.FloatOr("rope.freq_base_swa", 10000.0f));
  KVEC_ASSIGN_OR_RETURN(const int window, ReadSlidingWindow(keys, config));
  KVEC_ASSIGN_OR_RETURN(const int period,
                        keys.IntOr("attention.sliding_window_pattern", 6, kMaxLayers));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const bool is_global = period == 0 || (layer + 1) % period == 0;
    config.sliding_windows[layer] = is_global ? 0 : window;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  KVEC_ASSIGN_OR_RETURN(const int64_t num_splits, metadata.IntOr("split.count", 1, 0, INT32_MAX));
  if (num_splits > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("split.count: is ", num_splits, ", merge the files into one first"));
  }
  ModelConfig config;
  KVEC_ASSIGN_OR_RETURN(const std::string architecture, metadata.String("general.architecture"));
  KVEC_ASSIGN_OR_RETURN(config.family, FamilyOf(architecture));
  KVEC_ASSIGN_OR_RETURN(config.name, metadata.StringOr("general.name", architecture));

  const ArchitectureKeys keys(metadata, architecture);
  KVEC_RETURN_IF_ERROR(ReadSizes(keys, config));
  const FileTensor* embedding = FindTensor(file, "token_embd.weight");
  if (embedding == nullptr) {
    return absl::InvalidArgumentError("tensor token_embd.weight: is missing");
  }
  KVEC_ASSIGN_OR_RETURN(
      const int64_t vocab_size,
      metadata.IntOr(keys.Key("vocab_size"), embedding->shape.front(), 1, kMaxVocabSize));
  if (vocab_size > kMaxVocabSize) {
    return absl::InvalidArgumentError(absl::StrCat("tensor token_embd.weight: has ", vocab_size,
                                                   " rows, more than ", kMaxVocabSize));
  }
  config.vocab_size = static_cast<int>(vocab_size);
  KVEC_RETURN_IF_ERROR(ReadRope(keys, file, config));
  config.attention_scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  config.tie_word_embeddings = FindTensor(file, "output.weight") == nullptr;
  config.sliding_windows.assign(config.num_layers, 0);
  switch (config.family) {
    case ModelFamily::kLlama: {
      config.rope_pairing = RopePairing::kInterleaved;
      KVEC_ASSIGN_OR_RETURN(const int window, ReadSlidingWindow(keys, config));
      config.sliding_windows.assign(config.num_layers, window);
      break;
    }
    case ModelFamily::kQwen2:
      config.has_attention_bias = true;
      break;
    case ModelFamily::kQwen3:
      config.has_qk_norm = true;
      break;
    case ModelFamily::kGemma3:
      KVEC_RETURN_IF_ERROR(ReadGemma3(keys, config));
      break;
  }
  return config;
}

}  // namespace kvec
