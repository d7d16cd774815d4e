#include "common/model/gguf_config.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "common/model/model_limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/tiny_gguf.h"

namespace kvec {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<ModelConfig> ReadConfig(const GgufWriter& writer) {
  const std::string bytes = writer.Build();
  const absl::StatusOr<GgufFile> file =
      GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  if (!file.ok()) return file.status();
  absl::StatusOr<ModelConfig> config = ReadGgufConfig(*file);
  if (!config.ok()) return config;
  const absl::Status checked = CheckModelConfig(*config);
  if (!checked.ok()) return checked;
  return config;
}

TEST(GgufConfigTest, ReadsLlama) {
  const absl::StatusOr<ModelConfig> config = ReadConfig(TinyGguf(ModelFamily::kLlama));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, ModelFamily::kLlama);
  EXPECT_EQ(config->name, "Tiny");
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
  EXPECT_EQ(config->rope_pairing, RopePairing::kInterleaved);
  EXPECT_FLOAT_EQ(config->rope.theta, 5000.0f);
  EXPECT_TRUE(config->rope.frequency_factors.empty());
  EXPECT_THAT(config->sliding_windows, ElementsAre(0, 0));
  EXPECT_FALSE(config->has_attention_bias);
  EXPECT_FALSE(config->has_qk_norm);
  EXPECT_FALSE(config->tie_word_embeddings);  // it has output.weight
  EXPECT_FLOAT_EQ(config->embedding_scale, 1.0f);
  EXPECT_FLOAT_EQ(config->attention_scale, 0.5f);
}

TEST(GgufConfigTest, ReadsQwen2AndQwen3) {
  const absl::StatusOr<ModelConfig> qwen2 = ReadConfig(TinyGguf(ModelFamily::kQwen2));
  ASSERT_TRUE(qwen2.ok()) << qwen2.status();
  EXPECT_TRUE(qwen2->has_attention_bias);
  EXPECT_FALSE(qwen2->has_qk_norm);
  EXPECT_EQ(qwen2->rope_pairing, RopePairing::kHalves);
  EXPECT_TRUE(qwen2->tie_word_embeddings);
  const absl::StatusOr<ModelConfig> qwen3 = ReadConfig(TinyGguf(ModelFamily::kQwen3));
  ASSERT_TRUE(qwen3.ok()) << qwen3.status();
  EXPECT_FALSE(qwen3->has_attention_bias);
  EXPECT_TRUE(qwen3->has_qk_norm);
}

TEST(GgufConfigTest, ReadsGemma3WithFiveLocalLayersToOneGlobal) {
  GgufWriter writer = TinyGguf(ModelFamily::kGemma3);
  writer.Set("gemma3.rope.scaling.type", Value("linear"));
  writer.Set("gemma3.rope.scaling.factor", Value(8.0f));
  const absl::StatusOr<ModelConfig> config = ReadConfig(writer);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->sliding_windows, ElementsAre(16, 16, 16, 16, 16, 0, 16));
  EXPECT_FLOAT_EQ(config->rope.theta, 5000.0f);
  EXPECT_THAT(config->rope.frequency_factors, ElementsAre(8.0f, 8.0f));
  EXPECT_FLOAT_EQ(config->local_rope.theta, 10000.0f);
  EXPECT_TRUE(config->local_rope.frequency_factors.empty());
  EXPECT_EQ(config->activation, Activation::kGeluTanh);
  EXPECT_TRUE(config->has_qk_norm);
  EXPECT_TRUE(config->has_post_norms);
  EXPECT_FLOAT_EQ(config->embedding_scale, std::sqrt(8.0f));
  EXPECT_FLOAT_EQ(config->attention_scale, 0.5f);
}

TEST(GgufConfigTest, ScalesTheScoresOfGemma3With62LayersByHiddenSize) {
  GgufWriter writer = TinyGguf(ModelFamily::kGemma3);
  writer.Set("gemma3.block_count", Value<uint32_t>(62));
  const absl::StatusOr<ModelConfig> config = ReadConfig(writer);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FLOAT_EQ(config->attention_scale, 1.0f / std::sqrt(8.0f / 4.0f));
}

TEST(GgufConfigTest, TakesLlama3ScalingFromItsTensor) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.tensors.push_back({"rope_freqs.weight", 0, {2}, Bytes(1.0f) + Bytes(32.0f), {}, {}});
  const absl::StatusOr<ModelConfig> config = ReadConfig(writer);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->rope.frequency_factors, ElementsAre(1.0f, 32.0f));
  EXPECT_THAT(config->local_rope.frequency_factors, ElementsAre(1.0f, 32.0f));
}

TEST(GgufConfigTest, HasAWindowOnlyWhenItIsSmallerThanTheContext) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Set("llama.attention.sliding_window", Value<uint32_t>(63));
  EXPECT_THAT(ReadConfig(writer)->sliding_windows, Each(63));
  writer.Set("llama.attention.sliding_window", Value<uint32_t>(64));
  EXPECT_THAT(ReadConfig(writer)->sliding_windows, Each(0));
}

TEST(GgufConfigTest, DefaultsFollowFromOtherKeys) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  for (const char* key : {"llama.attention.key_length", "llama.attention.value_length",
                          "llama.attention.head_count_kv", "llama.rope.freq_base"}) {
    writer.Erase(key);
  }
  const absl::StatusOr<ModelConfig> config = ReadConfig(writer);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 2);  // hidden_size / num_heads
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_FLOAT_EQ(config->rope.theta, 10000.0f);
}

struct BadConfig {
  const char* name;
  std::function<void(GgufWriter&)> spoil;
  const char* message;
};

void PrintTo(const BadConfig& bad, std::ostream* out) { *out << bad.name; }

class BadGgufConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadGgufConfigTest, IsRejectedWithKeyAndValue) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  GetParam().spoil(writer);
  const absl::Status status = ReadConfig(writer).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

// Sets one key to an encoded value.
auto Set(const char* key, std::string value) {
  return [key, value](GgufWriter& writer) { writer.Set(key, value); };
}

INSTANTIATE_TEST_SUITE_P(
    Keys, BadGgufConfigTest,
    testing::Values(
        BadConfig{"UnknownFamily", Set("general.architecture", Value("mamba")),
                  "general.architecture: \"mamba\" is not supported; known: llama (also Mistral), "
                  "qwen2, qwen3, gemma3"},
        BadConfig{"NoFamily", [](GgufWriter& w) { w.Erase("general.architecture"); },
                  "general.architecture: metadata key is missing"},
        BadConfig{"SplitFile", Set("split.count", Value<uint16_t>(3)), "split.count: is 3"},
        BadConfig{"NoLayers", Set("llama.block_count", Value<uint32_t>(0)),
                  "llama.block_count: is 0"},
        BadConfig{"TooManyLayers", Set("llama.block_count", Value<uint32_t>(1025)),
                  "llama.block_count: is 1025"},
        BadConfig{"LayersWrap", Set("llama.block_count", Value<uint64_t>((1ull << 32) + 2)),
                  "llama.block_count: is 4294967298"},
        BadConfig{"NegativeLayers", Set("llama.block_count", Value<int32_t>(-1)),
                  "llama.block_count: is -1"},
        BadConfig{"HiddenSizeHuge", Set("llama.embedding_length", Value<uint32_t>(1 << 21)),
                  "llama.embedding_length: is 2097152"},
        BadConfig{"ContextHuge", Set("llama.context_length", Value<uint32_t>(~0u)),
                  "llama.context_length: is 4294967295"},
        BadConfig{"VocabularyHuge", Set("llama.vocab_size", Value<uint32_t>(~0u)),
                  "llama.vocab_size: is 4294967295"},
        BadConfig{"NoHeads", Set("llama.attention.head_count", Value<uint32_t>(0)),
                  "llama.attention.head_count: is 0"},
        BadConfig{"HeadsPerLayer",
                  Set("llama.attention.head_count", ArrayValue(std::vector<int32_t>{4, 4})),
                  "llama.attention.head_count: is an array of int32"},
        BadConfig{"KvHeadsDoNotDivide", Set("llama.attention.head_count_kv", Value<uint32_t>(3)),
                  "num_kv_heads: is 3, does not divide num_heads 4"},
        BadConfig{"ValuesOfAnotherLength", Set("llama.attention.value_length", Value<uint32_t>(8)),
                  "llama.attention.value_length: is 8, must be 4"},
        BadConfig{"PartialRotation", Set("llama.rope.dimension_count", Value<uint32_t>(2)),
                  "llama.rope.dimension_count: is 2, must be 4"},
        BadConfig{"Experts", Set("llama.expert_count", Value<uint32_t>(8)),
                  "llama.expert_count: is 8"},
        BadConfig{"EpsilonNegative", Set("llama.attention.layer_norm_rms_epsilon", Value(-1.0f)),
                  "rms_norm_eps: is -1"},
        BadConfig{"ThetaZero", Set("llama.rope.freq_base", Value(0.0f)), "rope.theta: is 0"},
        BadConfig{"Yarn", Set("llama.rope.scaling.type", Value("yarn")),
                  "llama.rope.scaling.type: \"yarn\" is not supported; known: none, linear"},
        BadConfig{"ScalingFactorZero", Set("llama.rope.scaling.factor", Value(0.0f)),
                  "llama.rope.scaling.factor: factor: is 0"},
        BadConfig{"NoEmbedding", [](GgufWriter& w) { w.EraseTensor("token_embd.weight"); },
                  "tensor token_embd.weight: is missing"},
        BadConfig{"RopeFreqsOfAnotherLength",
                  [](GgufWriter& w) {
                    w.tensors.push_back({"rope_freqs.weight", 0, {1}, Bytes(1.0f), {}, {}});
                  },
                  "tensor rope_freqs.weight: is F32 [1], must be F32 [2]"},
        BadConfig{
            "RopeFreqsNotPositive",
            [](GgufWriter& w) {
              w.tensors.push_back({"rope_freqs.weight", 0, {2}, Bytes(1.0f) + Bytes(0.0f), {}, {}});
            },
            "rope.frequency_factors: is 0"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec
