#include "common/model/hf_tensor_names.h"

#include <optional>

#include "gtest/gtest.h"

namespace kvec {
namespace {

TEST(GgufTensorNameTest, TranslatesTheNamesOfEveryFamily) {
  const struct {
    const char* hf;
    const char* gguf;
  } kNames[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.11.self_attn.q_proj.weight", "blk.11.attn_q.weight"},
      {"model.layers.11.self_attn.k_proj.bias", "blk.11.attn_k.bias"},
      {"model.layers.11.self_attn.o_proj.weight", "blk.11.attn_output.weight"},
      {"model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"},
      {"model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"},
      {"model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight"},
      {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
  };
  for (const auto& name : kNames) {
    EXPECT_EQ(GgufTensorName(name.hf, ModelFamily::kQwen3), name.gguf);
  }
}

TEST(GgufTensorNameTest, TheNormAfterAttentionIsAnotherOneInGemma3) {
  const char* name = "model.layers.2.post_attention_layernorm.weight";
  EXPECT_EQ(GgufTensorName(name, ModelFamily::kLlama), "blk.2.ffn_norm.weight");
  EXPECT_EQ(GgufTensorName(name, ModelFamily::kGemma3), "blk.2.post_attention_norm.weight");
  EXPECT_EQ(GgufTensorName("model.layers.2.pre_feedforward_layernorm.weight", ModelFamily::kGemma3),
            "blk.2.ffn_norm.weight");
  EXPECT_EQ(
      GgufTensorName("model.layers.2.post_feedforward_layernorm.weight", ModelFamily::kGemma3),
      "blk.2.post_ffw_norm.weight");
}

TEST(GgufTensorNameTest, FindsTheLanguageModelOfAModelWithImages) {
  for (const char* name : {"language_model.model.layers.1.mlp.up_proj.weight",
                           "model.language_model.layers.1.mlp.up_proj.weight"}) {
    EXPECT_EQ(GgufTensorName(name, ModelFamily::kGemma3), "blk.1.ffn_up.weight");
  }
}

TEST(GgufTensorNameTest, LeavesOutWhatTheLanguageModelDoesNotRead) {
  for (const char* name :
       {"", "model.layers.", "model.layers.1", "model.layers.x.mlp.up_proj.weight",
        "model.layers.-1.mlp.up_proj.weight", "model.layers.99999.mlp.up_proj.weight",
        "model.layers.1.self_attn.rotary_emb.inv_freq", "vision_tower.layers.1.mlp.fc1.weight",
        "blk.1.ffn_up.weight"}) {
    EXPECT_EQ(GgufTensorName(name, ModelFamily::kLlama), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace kvec
