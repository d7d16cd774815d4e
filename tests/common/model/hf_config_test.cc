#include "common/model/hf_config.h"

#include <cmath>
#include <string>
#include <vector>

#include "common/model/model_limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/tiny_hf.h"

namespace kvec {
namespace {

using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<ModelConfig> ReadConfig(const json& config_json) {
  absl::StatusOr<ModelConfig> config = ReadHfConfig(config_json);
  if (!config.ok()) return config;
  const absl::Status checked = CheckModelConfig(*config);
  if (!checked.ok()) return checked;
  return config;
}

// The fields of `changes` put into a tiny configuration; null takes one out.
json TinyConfig(const std::string& model_type, const json& changes = json::object()) {
  json config = TinyHf(model_type).config;
  config.merge_patch(changes);
  return config;
}

TEST(HfConfigTest, ReadsLlama) {
  const absl::StatusOr<ModelConfig> config = ReadConfig(TinyConfig("llama"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, ModelFamily::kLlama);
  EXPECT_EQ(config->num_layers, 2);
  EXPECT_EQ(config->hidden_size, 8);
  EXPECT_EQ(config->intermediate_size, 16);
  EXPECT_EQ(config->num_heads, 4);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 4);
  EXPECT_EQ(config->vocab_size, 12);
  EXPECT_EQ(config->context_length, 64);
  EXPECT_FLOAT_EQ(config->rms_norm_eps, 1e-5f);
  EXPECT_EQ(config->activation, Activation::kSilu);
  EXPECT_EQ(config->rope_pairing, RopePairing::kHalves);
  EXPECT_FLOAT_EQ(config->rope.theta, 5000.0f);
  EXPECT_THAT(config->sliding_windows, ElementsAre(0, 0));
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_FLOAT_EQ(config->attention_scale, 0.5f);
}

TEST(HfConfigTest, MissingFieldsHaveTheDefaultsOfTransformers) {
  const json changes = {{"head_dim", nullptr},     {"num_key_value_heads", nullptr},
                        {"rope_theta", nullptr},   {"tie_word_embeddings", nullptr},
                        {"rms_norm_eps", nullptr}, {"hidden_size", 32}};
  const absl::StatusOr<ModelConfig> llama = ReadConfig(TinyConfig("llama", changes));
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(llama->head_dim, 8);
  EXPECT_EQ(llama->num_kv_heads, 4);
  EXPECT_FLOAT_EQ(llama->rope.theta, 10000.0f);
  EXPECT_FALSE(llama->tie_word_embeddings);
  EXPECT_FLOAT_EQ(llama->rms_norm_eps, 1e-6f);
  EXPECT_EQ(ReadConfig(TinyConfig("qwen3", changes))->head_dim, 128);

  // google/gemma-3-4b's text_config says no more than this.
  const absl::StatusOr<ModelConfig> gemma3 =
      ReadConfig({{"model_type", "gemma3"},
                  {"text_config",
                   {{"hidden_size", 2560},
                    {"intermediate_size", 10240},
                    {"model_type", "gemma3_text"},
                    {"num_hidden_layers", 34},
                    {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                    {"sliding_window", 1024}}}});
  ASSERT_TRUE(gemma3.ok()) << gemma3.status();
  EXPECT_EQ(gemma3->num_heads, 8);
  EXPECT_EQ(gemma3->num_kv_heads, 4);
  EXPECT_EQ(gemma3->head_dim, 256);
  EXPECT_EQ(gemma3->vocab_size, 262208);
  EXPECT_TRUE(gemma3->tie_word_embeddings);
  EXPECT_FLOAT_EQ(gemma3->rope.theta, 1e6f);
  EXPECT_THAT(gemma3->rope.frequency_factors, Each(8.0f));
  EXPECT_FLOAT_EQ(gemma3->attention_scale, 1.0f / 16.0f);
  EXPECT_EQ(gemma3->sliding_windows[4], 1024);
  EXPECT_EQ(gemma3->sliding_windows[5], 0);
}

TEST(HfConfigTest, ReadsGemma3) {
  const absl::StatusOr<ModelConfig> config = ReadConfig(
      TinyConfig("gemma3_text", {{"sliding_window", 16},
                                 {"sliding_window_pattern", 3},
                                 {"num_hidden_layers", 4},
                                 {"query_pre_attn_scalar", 9},
                                 {"rope_local_base_freq", 777.0},
                                 {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->sliding_windows, ElementsAre(16, 16, 0, 16));
  EXPECT_FLOAT_EQ(config->attention_scale, 1.0f / 3.0f);
  EXPECT_FLOAT_EQ(config->embedding_scale, std::sqrt(8.0f));
  EXPECT_EQ(config->activation, Activation::kGeluTanh);
  EXPECT_TRUE(config->has_qk_norm);
  EXPECT_TRUE(config->has_post_norms);
  EXPECT_FLOAT_EQ(config->rope.theta, 5000.0f);
  EXPECT_THAT(config->rope.frequency_factors, ElementsAre(2.0f, 2.0f));
  EXPECT_FLOAT_EQ(config->local_rope.theta, 777.0f);
  EXPECT_TRUE(config->local_rope.frequency_factors.empty());
}

TEST(HfConfigTest, ReadsRopeAsTransformers5WritesIt) {
  const absl::StatusOr<ModelConfig> gemma3 = ReadConfig(TinyConfig(
      "gemma3_text",
      {{"rope_theta", nullptr},
       {"rope_parameters",
        {{"full_attention", {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 3e6}}},
         {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 20000.0}}}}}}));
  ASSERT_TRUE(gemma3.ok()) << gemma3.status();
  EXPECT_FLOAT_EQ(gemma3->rope.theta, 3e6f);
  EXPECT_THAT(gemma3->rope.frequency_factors, Each(4.0f));
  EXPECT_FLOAT_EQ(gemma3->local_rope.theta, 20000.0f);
  EXPECT_TRUE(gemma3->local_rope.frequency_factors.empty());

  const absl::StatusOr<ModelConfig> llama =
      ReadConfig(TinyConfig("llama", {{"rope_theta", nullptr},
                                      {"rope_parameters",
                                       {{"rope_type", "llama3"},
                                        {"rope_theta", 500000.0},
                                        {"factor", 8.0},
                                        {"low_freq_factor", 1.0},
                                        {"high_freq_factor", 4.0},
                                        {"original_max_position_embeddings", 8192}}}}));
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_FLOAT_EQ(llama->rope.theta, 500000.0f);
  EXPECT_EQ(llama->rope.frequency_factors.size(), 2u);
  EXPECT_EQ(llama->local_rope.frequency_factors, llama->rope.frequency_factors);
}

TEST(HfConfigTest, MistralHasItsWindowInEveryLayerOrNone) {
  EXPECT_THAT(ReadConfig(TinyConfig("mistral", {{"sliding_window", 8}}))->sliding_windows, Each(8));
  json without = TinyConfig("mistral");
  without["sliding_window"] = nullptr;
  EXPECT_THAT(ReadConfig(without)->sliding_windows, Each(0));
  // As wide as the context.
  EXPECT_THAT(ReadConfig(TinyConfig("mistral", {{"sliding_window", 64}}))->sliding_windows,
              Each(0));
  // transformers' default: 4096, for a longer context.
  EXPECT_THAT(
      ReadConfig(TinyConfig("mistral", {{"max_position_embeddings", 8192}}))->sliding_windows,
      Each(4096));
}

TEST(HfConfigTest, QwenHasAWindowOnlyWhenItIsSwitchedOn) {
  json changes = {{"sliding_window", 8}, {"max_window_layers", 1}};
  EXPECT_THAT(ReadConfig(TinyConfig("qwen2", changes))->sliding_windows, ElementsAre(0, 0));
  changes["use_sliding_window"] = true;
  EXPECT_THAT(ReadConfig(TinyConfig("qwen2", changes))->sliding_windows, ElementsAre(0, 8));
  changes["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_THAT(ReadConfig(TinyConfig("qwen3", changes))->sliding_windows, ElementsAre(8, 0));
}

TEST(HfConfigTest, QwenFamiliesDifferInBiasAndNorm) {
  const absl::StatusOr<ModelConfig> qwen2 = ReadConfig(TinyConfig("qwen2"));
  const absl::StatusOr<ModelConfig> qwen3 = ReadConfig(TinyConfig("qwen3"));
  ASSERT_TRUE(qwen2.ok() && qwen3.ok());
  EXPECT_TRUE(qwen2->has_attention_bias);
  EXPECT_FALSE(qwen2->has_qk_norm);
  EXPECT_FALSE(qwen3->has_attention_bias);
  EXPECT_TRUE(qwen3->has_qk_norm);
}

struct BadConfig {
  const char* name;
  const char* model_type;
  json changes;
  const char* message;
};

void PrintTo(const BadConfig& bad, std::ostream* out) { *out << bad.name; }

class BadHfConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadHfConfigTest, IsRejectedWithFieldAndValue) {
  const absl::Status status =
      ReadConfig(TinyConfig(GetParam().model_type, GetParam().changes)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadHfConfigTest,
    testing::Values(
        BadConfig{"UnknownFamily",
                  "llama",
                  {{"model_type", "mamba"}},
                  "model_type: \"mamba\" is not supported; known: llama, mistral, qwen2, qwen3, "
                  "gemma3, gemma3_text"},
        BadConfig{"NoFamily", "llama", {{"model_type", nullptr}}, "model_type: is missing"},
        BadConfig{"NoLayerCount",
                  "llama",
                  {{"num_hidden_layers", nullptr}},
                  "num_hidden_layers: is missing"},
        BadConfig{"LayersHuge",
                  "llama",
                  {{"num_hidden_layers", 1'000'000}},
                  "num_hidden_layers: is 1000000, must be an integer in 1 … 1024"},
        BadConfig{
            "LayersNegative", "llama", {{"num_hidden_layers", -1}}, "num_hidden_layers: is -1"},
        BadConfig{"LayersWrap",
                  "llama",
                  {{"num_hidden_layers", 18446744073709551615ull}},
                  "num_hidden_layers: is 18446744073709551615"},
        BadConfig{
            "LayersFractional", "llama", {{"num_hidden_layers", 2.5}}, "num_hidden_layers: is 2.5"},
        BadConfig{
            "LayersText", "llama", {{"num_hidden_layers", "2"}}, "num_hidden_layers: is \"2\""},
        BadConfig{"HiddenSizeHuge", "llama", {{"hidden_size", 1 << 21}}, "hidden_size: is 2097152"},
        BadConfig{
            "VocabularyHuge", "llama", {{"vocab_size", 1ll << 32}}, "vocab_size: is 4294967296"},
        BadConfig{"ContextHuge",
                  "llama",
                  {{"max_position_embeddings", 1ll << 40}},
                  "max_position_embeddings: is 1099511627776"},
        BadConfig{"HeadDimZero", "llama", {{"head_dim", 0}}, "head_dim: is 0"},
        BadConfig{"HeadDimOdd", "llama", {{"head_dim", 3}}, "head_dim: is 3, must be even"},
        BadConfig{"MoreHeadsThanHiddenSize",
                  "llama",
                  {{"head_dim", nullptr}, {"num_attention_heads", 16}},
                  "num_attention_heads: is 16, more than hidden_size 8"},
        BadConfig{"KvHeadsDoNotDivide",
                  "llama",
                  {{"num_key_value_heads", 3}},
                  "num_kv_heads: is 3, does not divide num_heads 4"},
        BadConfig{"EpsilonZero", "llama", {{"rms_norm_eps", 0}}, "rms_norm_eps: is 0"},
        BadConfig{
            "EpsilonBeyondFloat", "llama", {{"rms_norm_eps", 1e300}}, "rms_norm_eps: is 1e+300"},
        BadConfig{"Activation",
                  "llama",
                  {{"hidden_act", "relu"}},
                  "hidden_act: \"relu\" is not supported; known: silu, gelu_pytorch_tanh"},
        BadConfig{"Bias", "llama", {{"attention_bias", true}}, "attention_bias: is true"},
        BadConfig{"SwitchNoBool", "llama", {{"mlp_bias", 1}}, "mlp_bias: is 1"},
        BadConfig{"Quantised",
                  "llama",
                  {{"quantization_config", {{"quant_method", "awq"}}}},
                  "quantization_config: is set"},
        BadConfig{"SoftCap",
                  "gemma3_text",
                  {{"final_logit_softcapping", 30.0}},
                  "final_logit_softcapping: is set"},
        BadConfig{"RopeNoObject",
                  "llama",
                  {{"rope_scaling", "llama3"}},
                  "rope_scaling: is \"llama3\", must be an object"},
        BadConfig{
            "RopeType",
            "llama",
            {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}},
            "rope_scaling.rope_type: \"yarn\" is not supported; known: default, linear, llama3"},
        BadConfig{"RopeFactorMissing",
                  "llama",
                  {{"rope_scaling", {{"rope_type", "llama3"}}}},
                  "rope_scaling.factor: is missing"},
        BadConfig{"RopeFactorNegative",
                  "llama",
                  {{"rope_scaling", {{"rope_type", "linear"}, {"factor", -4.0}}}},
                  "factor: is -4"},
        BadConfig{"PartialRotation",
                  "llama",
                  {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
                  "rope_parameters.partial_rotary_factor: is 0.5"},
        BadConfig{"ThetaNegative", "llama", {{"rope_theta", -1.0}}, "rope.theta: is -1"},
        BadConfig{"WindowNegative", "mistral", {{"sliding_window", -5}}, "sliding_window: is -5"},
        BadConfig{"LayerTypesTooFew",
                  "gemma3_text",
                  {{"sliding_window", 8}, {"layer_types", {"full_attention"}}},
                  "layer_types: has 1 elements, must be an array of 2"},
        BadConfig{"LayerTypeUnknown",
                  "gemma3_text",
                  {{"sliding_window", 8}, {"layer_types", {"full_attention", "chunked_attention"}}},
                  "layer_types[1]: is not supported; known: full_attention, sliding_attention"},
        BadConfig{"PatternZero",
                  "gemma3_text",
                  {{"sliding_window", 8}, {"sliding_window_pattern", 0}},
                  "sliding_window_pattern: is 0"},
        BadConfig{"ScalarZero",
                  "gemma3_text",
                  {{"query_pre_attn_scalar", 0}},
                  "query_pre_attn_scalar: is 0"},
        BadConfig{
            "NoTextConfig", "gemma3_text", {{"model_type", "gemma3"}}, "text_config: is missing"}),
    [](const auto& info) { return info.param.name; });

TEST(HfConfigTest, RejectsWhatIsNoObject) {
  EXPECT_EQ(ReadHfConfig(json::array()).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvec
