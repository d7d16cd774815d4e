#include "tests/common/model/tiny_hf.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "tests/common/model/gguf_writer.h"

namespace kvec {
namespace {

constexpr int kLayers = 2;
constexpr int64_t kHidden = 8;
constexpr int64_t kIntermediate = 16;
constexpr int64_t kHeadDim = 4;
constexpr int64_t kQuerySize = 4 * kHeadDim;
constexpr int64_t kKvSize = 2 * kHeadDim;
constexpr int64_t kVocab = 12;

// The numbers differ from tensor to tensor and within each.
SafetensorsTensor MakeTensor(const std::string& name, std::vector<int64_t> shape, int number) {
  int64_t num_elements = 1;
  for (const int64_t dimension : shape) num_elements *= dimension;
  std::string data;
  for (int64_t i = 0; i < num_elements; ++i) {
    data += Bytes(static_cast<float>(number) + static_cast<float>(i) / 1024.0f);
  }
  return {name, "F32", std::move(shape), std::move(data)};
}

void AppendLayer(const std::string& model_type, int layer,
                 std::vector<SafetensorsTensor>& tensors) {
  const std::string prefix = absl::StrCat("model.layers.", layer, ".");
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    tensors.push_back(
        MakeTensor(prefix + name, std::move(shape), static_cast<int>(tensors.size())));
  };
  add("input_layernorm.weight", {kHidden});
  add("self_attn.q_proj.weight", {kQuerySize, kHidden});
  add("self_attn.k_proj.weight", {kKvSize, kHidden});
  add("self_attn.v_proj.weight", {kKvSize, kHidden});
  add("self_attn.o_proj.weight", {kHidden, kQuerySize});
  add("post_attention_layernorm.weight", {kHidden});
  add("mlp.gate_proj.weight", {kIntermediate, kHidden});
  add("mlp.up_proj.weight", {kIntermediate, kHidden});
  add("mlp.down_proj.weight", {kHidden, kIntermediate});
  if (model_type == "qwen2") {
    add("self_attn.q_proj.bias", {kQuerySize});
    add("self_attn.k_proj.bias", {kKvSize});
    add("self_attn.v_proj.bias", {kKvSize});
  }
  if (model_type == "qwen3" || model_type == "gemma3_text") {
    add("self_attn.q_norm.weight", {kHeadDim});
    add("self_attn.k_norm.weight", {kHeadDim});
  }
  if (model_type == "gemma3_text") {
    add("pre_feedforward_layernorm.weight", {kHidden});
    add("post_feedforward_layernorm.weight", {kHidden});
  }
}

}  // namespace

TinyHf::TinyHf(const std::string& model_type) {
  config = {{"model_type", model_type},
            {"num_hidden_layers", kLayers},
            {"hidden_size", kHidden},
            {"intermediate_size", kIntermediate},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"head_dim", kHeadDim},
            {"vocab_size", kVocab},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-5},
            {"rope_theta", 5000.0},
            {"tie_word_embeddings", true},
            {"bos_token_id", 1},
            {"eos_token_id", 2}};
  tokenizer = {
      {"version", "1.0"},
      {"added_tokens",
       {{{"id", 1}, {"content", "<s>"}, {"special", true}},
        {{"id", 2}, {"content", "</s>"}, {"special", true}},
        {{"id", 3}, {"content", "<|im_end|>"}, {"special", true}}}},
      {"model", {{"type", "BPE"}, {"vocab", {{"a", 4}}}, {"merges", nlohmann::json::array()}}}};
  tokenizer_config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", "{{ x }}"}};
  tensors.push_back(MakeTensor("model.embed_tokens.weight", {kVocab, kHidden}, 0));
  for (int layer = 0; layer < kLayers; ++layer) AppendLayer(model_type, layer, tensors);
  tensors.push_back(MakeTensor("model.norm.weight", {kHidden}, static_cast<int>(tensors.size())));
}

SafetensorsTensor& TinyHf::Find(const std::string& tensor_name) {
  const auto it =
      std::find_if(tensors.begin(), tensors.end(),
                   [&](const SafetensorsTensor& tensor) { return tensor.name == tensor_name; });
  CHECK(it != tensors.end()) << tensor_name;
  return *it;
}

void TinyHf::Write(const TempFolder& folder) const {
  folder.Write("config.json", config.dump());
  folder.Write("tokenizer.json", tokenizer.dump());
  folder.Write("tokenizer_config.json", tokenizer_config.dump());
  folder.Write("model.safetensors", BuildSafetensors(tensors));
}

}  // namespace kvec
