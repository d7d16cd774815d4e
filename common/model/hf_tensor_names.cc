#include "common/model/hf_tensor_names.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/model/model_limits.h"

namespace kvec {
namespace {

struct NamePair {
  absl::string_view hf;
  absl::string_view gguf;
};

constexpr NamePair kModelNames[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};

// Within model.layers.N.
constexpr NamePair kLayerNames[] = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.q_proj.bias", "attn_q.bias"},
    {"self_attn.k_proj.bias", "attn_k.bias"},
    {"self_attn.v_proj.bias", "attn_v.bias"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    {"pre_feedforward_layernorm.weight", "ffn_norm.weight"},
    {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
};

// The one name that means different things: gemma3 has norms on both sides of the MLP, the others
// call the one before it after the attention that it follows.
constexpr absl::string_view kPostAttentionNorm = "post_attention_layernorm.weight";

std::optional<std::string> LayerTensorName(absl::string_view hf_name, ModelFamily family) {
  const size_t dot = hf_name.find('.');
  int layer = 0;
  if (dot == absl::string_view::npos || !absl::SimpleAtoi(hf_name.substr(0, dot), &layer) ||
      layer < 0 || layer >= kMaxLayers) {
    return std::nullopt;
  }
  const absl::string_view part = hf_name.substr(dot + 1);
  if (part == kPostAttentionNorm) {
    return absl::StrCat(
        "blk.", layer,
        family == ModelFamily::kGemma3 ? ".post_attention_norm.weight" : ".ffn_norm.weight");
  }
  for (const NamePair& pair : kLayerNames) {
    if (part == pair.hf) return absl::StrCat("blk.", layer, ".", pair.gguf);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> GgufTensorName(absl::string_view hf_name, ModelFamily family) {
  // Models with images keep the language model one level down, in one of two ways.
  std::string name(hf_name);
  if (absl::string_view rest = hf_name; absl::ConsumePrefix(&rest, "language_model.")) {
    name = std::string(rest);
  } else if (absl::ConsumePrefix(&rest, "model.language_model.")) {
    name = absl::StrCat("model.", rest);
  }
  for (const NamePair& pair : kModelNames) {
    if (name == pair.hf) return std::string(pair.gguf);
  }
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "model.layers.")) return LayerTensorName(rest, family);
  return std::nullopt;
}

}  // namespace kvec
