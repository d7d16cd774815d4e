#include "common/model/tensor_requirements.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec {
namespace {

void AppendLayer(const ModelConfig& config, int layer, std::vector<TensorRequirement>& required) {
  const int64_t hidden = config.hidden_size;
  const int64_t q_size = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_size = int64_t{config.num_kv_heads} * config.head_dim;
  const auto append = [&](absl::string_view name, std::vector<int64_t> shape) {
    required.push_back({absl::StrCat("blk.", layer, ".", name), std::move(shape)});
  };
  append("attn_norm.weight", {hidden});
  append("attn_q.weight", {q_size, hidden});
  append("attn_k.weight", {kv_size, hidden});
  append("attn_v.weight", {kv_size, hidden});
  append("attn_output.weight", {hidden, q_size});
  if (config.has_attention_bias) {
    append("attn_q.bias", {q_size});
    append("attn_k.bias", {kv_size});
    append("attn_v.bias", {kv_size});
  }
  if (config.has_qk_norm) {
    append("attn_q_norm.weight", {config.head_dim});
    append("attn_k_norm.weight", {config.head_dim});
  }
  append("ffn_norm.weight", {hidden});
  append("ffn_gate.weight", {config.intermediate_size, hidden});
  append("ffn_up.weight", {config.intermediate_size, hidden});
  append("ffn_down.weight", {hidden, config.intermediate_size});
  if (config.has_post_norms) {
    append("post_attention_norm.weight", {hidden});
    append("post_ffw_norm.weight", {hidden});
  }
}

}  // namespace

std::vector<TensorRequirement> RequiredTensors(const ModelConfig& config) {
  std::vector<TensorRequirement> required;
  required.push_back({"token_embd.weight", {config.vocab_size, config.hidden_size}});
  for (int layer = 0; layer < config.num_layers; ++layer) AppendLayer(config, layer, required);
  required.push_back({"output_norm.weight", {config.hidden_size}});
  if (!config.tie_word_embeddings) {
    required.push_back({"output.weight", {config.vocab_size, config.hidden_size}});
  }
  return required;
}

}  // namespace kvec
