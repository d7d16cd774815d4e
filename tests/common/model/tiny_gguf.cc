#include "tests/common/model/tiny_gguf.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec {
namespace {

constexpr uint64_t kHidden = 8;
constexpr uint64_t kIntermediate = 16;
constexpr uint64_t kHeadDim = 4;
constexpr uint64_t kQuerySize = 4 * kHeadDim;
constexpr uint64_t kKvSize = 2 * kHeadDim;
constexpr uint64_t kVocab = 12;

// dims: innermost first. The numbers differ from tensor to tensor and within each.
void AddTensor(GgufWriter& writer, absl::string_view name, std::vector<uint64_t> dims) {
  uint64_t num_elements = 1;
  for (const uint64_t dim : dims) num_elements *= dim;
  std::string data;
  for (uint64_t i = 0; i < num_elements; ++i) {
    data += Bytes(static_cast<float>(writer.tensors.size()) + static_cast<float>(i) / 1024.0f);
  }
  writer.tensors.push_back({std::string(name), 0, std::move(dims), std::move(data), {}, {}});
}

void AddLayer(GgufWriter& writer, ModelFamily family, int layer) {
  const std::string prefix = absl::StrCat("blk.", layer, ".");
  const auto add = [&](absl::string_view name, std::vector<uint64_t> dims) {
    AddTensor(writer, absl::StrCat(prefix, name), std::move(dims));
  };
  add("attn_norm.weight", {kHidden});
  add("attn_q.weight", {kHidden, kQuerySize});
  add("attn_k.weight", {kHidden, kKvSize});
  add("attn_v.weight", {kHidden, kKvSize});
  add("attn_output.weight", {kQuerySize, kHidden});
  add("ffn_norm.weight", {kHidden});
  add("ffn_gate.weight", {kHidden, kIntermediate});
  add("ffn_up.weight", {kHidden, kIntermediate});
  add("ffn_down.weight", {kIntermediate, kHidden});
  if (family == ModelFamily::kQwen2) {
    add("attn_q.bias", {kQuerySize});
    add("attn_k.bias", {kKvSize});
    add("attn_v.bias", {kKvSize});
  }
  if (family == ModelFamily::kQwen3 || family == ModelFamily::kGemma3) {
    add("attn_q_norm.weight", {kHeadDim});
    add("attn_k_norm.weight", {kHeadDim});
  }
  if (family == ModelFamily::kGemma3) {
    add("post_attention_norm.weight", {kHidden});
    add("post_ffw_norm.weight", {kHidden});
  }
}

void SetTokenizer(GgufWriter& writer, ModelFamily family) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "<|im_end|>"};
  std::vector<int32_t> types = {2, 3, 3, 3};
  for (char letter = 'a'; tokens.size() < kVocab; ++letter) {
    tokens.emplace_back(1, letter);
    types.push_back(1);
  }
  writer.Set("tokenizer.ggml.tokens", ArrayValue(tokens));
  writer.Set("tokenizer.ggml.token_type", ArrayValue(types));
  writer.Set("tokenizer.ggml.bos_token_id", Value<uint32_t>(1));
  writer.Set("tokenizer.ggml.eos_token_id", Value<uint32_t>(2));
  if (family == ModelFamily::kGemma3) {
    writer.Set("tokenizer.ggml.model", Value("llama"));
    writer.Set("tokenizer.ggml.scores", ArrayValue(std::vector<float>(kVocab, -1.0f)));
  } else {
    writer.Set("tokenizer.ggml.model", Value("gpt2"));
    writer.Set("tokenizer.ggml.pre", Value("smollm"));
    writer.Set("tokenizer.ggml.merges", ArrayValue(std::vector<std::string>{"a b", "c d"}));
  }
}

}  // namespace

GgufWriter TinyGguf(ModelFamily family) {
  GgufWriter writer;
  const std::string architecture(ModelFamilyName(family));
  const uint32_t num_layers = family == ModelFamily::kGemma3 ? 7 : 2;
  writer.Set("general.architecture", Value(absl::string_view(architecture)));
  writer.Set("general.name", Value("Tiny"));
  const auto set = [&](absl::string_view suffix, std::string value) {
    writer.Set(absl::StrCat(architecture, ".", suffix), std::move(value));
  };
  set("block_count", Value<uint32_t>(num_layers));
  set("context_length", Value<uint32_t>(64));
  set("embedding_length", Value<uint32_t>(kHidden));
  set("feed_forward_length", Value<uint32_t>(kIntermediate));
  set("attention.head_count", Value<uint32_t>(4));
  set("attention.head_count_kv", Value<uint32_t>(2));
  set("attention.key_length", Value<uint32_t>(kHeadDim));
  set("attention.value_length", Value<uint32_t>(kHeadDim));
  set("attention.layer_norm_rms_epsilon", Value(1e-5f));
  set("rope.freq_base", Value(5000.0f));
  if (family == ModelFamily::kGemma3) set("attention.sliding_window", Value<uint32_t>(16));
  SetTokenizer(writer, family);

  AddTensor(writer, "token_embd.weight", {kHidden, kVocab});
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    AddLayer(writer, family, static_cast<int>(layer));
  }
  AddTensor(writer, "output_norm.weight", {kHidden});
  if (family == ModelFamily::kLlama) AddTensor(writer, "output.weight", {kHidden, kVocab});
  return writer;
}

}  // namespace kvec
