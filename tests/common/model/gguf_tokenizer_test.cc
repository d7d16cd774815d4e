#include "common/model/gguf_tokenizer.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/model/gguf_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/tiny_gguf.h"

namespace kvec {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kVocab = 12;

absl::StatusOr<TokenizerData> ReadTokenizer(const GgufWriter& writer) {
  const std::string bytes = writer.Build();
  const absl::StatusOr<GgufFile> file =
      GgufFile::Parse({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  if (!file.ok()) return file.status();
  return ReadGgufTokenizer(file->metadata(), kVocab);
}

TEST(GgufTokenizerTest, ReadsByteLevelBpe) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Set("tokenizer.chat_template", Value("{{ messages }}"));
  const absl::StatusOr<TokenizerData> data = ReadTokenizer(writer);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->kind, TokenizerData::Kind::kByteLevelBpe);
  ASSERT_EQ(data->tokens.size(), 12u);
  EXPECT_EQ(data->tokens[4], "a");
  EXPECT_EQ(data->token_types[0], TokenizerData::kUnknown);
  EXPECT_EQ(data->token_types[3], TokenizerData::kControl);
  EXPECT_THAT(data->merges, ElementsAre("a b", "c d"));
  EXPECT_TRUE(data->scores.empty());
  EXPECT_EQ(data->pre_tokenizer, "smollm");
  EXPECT_EQ(data->chat_template, "{{ messages }}");
  EXPECT_EQ(data->bos_id, 1);
  EXPECT_EQ(data->unknown_id, std::nullopt);
  EXPECT_FALSE(data->add_bos);
  EXPECT_FALSE(data->add_space_prefix);
  EXPECT_TRUE(data->tokenizer_json.empty());
}

TEST(GgufTokenizerTest, ReadsSentencePieceWithItsDefaults) {
  const absl::StatusOr<TokenizerData> data = ReadTokenizer(TinyGguf(ModelFamily::kGemma3));
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->kind, TokenizerData::Kind::kSentencePieceBpe);
  EXPECT_EQ(data->scores.size(), 12u);
  EXPECT_TRUE(data->merges.empty());
  EXPECT_TRUE(data->add_bos);
  EXPECT_FALSE(data->add_eos);
  EXPECT_TRUE(data->add_space_prefix);
}

TEST(GgufTokenizerTest, WhatTheFileSaysBeatsTheDefaults) {
  GgufWriter writer = TinyGguf(ModelFamily::kGemma3);
  writer.Set("tokenizer.ggml.add_bos_token", Value(false));
  writer.Set("tokenizer.ggml.add_eos_token", Value(true));
  writer.Set("tokenizer.ggml.add_space_prefix", Value(false));
  const absl::StatusOr<TokenizerData> data = ReadTokenizer(writer);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_FALSE(data->add_bos);
  EXPECT_TRUE(data->add_eos);
  EXPECT_FALSE(data->add_space_prefix);
}

TEST(GgufTokenizerTest, Llama3BeginsWithBosUnlessToldOtherwise) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Set("tokenizer.ggml.pre", Value("llama-bpe"));
  EXPECT_TRUE(ReadTokenizer(writer)->add_bos);
}

// The end of a turn has no key of its own in most files; "</s>" counts only by eos_token_id.
TEST(GgufTokenizerTest, EndsAreThoseWithAKeyAndThoseWithAWellKnownName) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  EXPECT_THAT(ReadTokenizer(writer)->eos_ids, ElementsAre(2, 3));
  writer.Set("tokenizer.ggml.eot_token_id", Value<uint32_t>(5));
  EXPECT_THAT(ReadTokenizer(writer)->eos_ids, ElementsAre(2, 3, 5));
  writer.Erase("tokenizer.ggml.eos_token_id");
  EXPECT_THAT(ReadTokenizer(writer)->eos_ids, ElementsAre(3, 5));
}

TEST(GgufTokenizerTest, TokensWithoutTypesAreNormal) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Erase("tokenizer.ggml.token_type");
  EXPECT_THAT(ReadTokenizer(writer)->token_types, Each(TokenizerData::kNormal));
}

struct BadTokenizer {
  const char* name;
  ModelFamily family;
  std::function<void(GgufWriter&)> spoil;
  const char* message;
};

void PrintTo(const BadTokenizer& bad, std::ostream* out) { *out << bad.name; }

class BadGgufTokenizerTest : public testing::TestWithParam<BadTokenizer> {};

TEST_P(BadGgufTokenizerTest, IsRejectedWithKeyAndValue) {
  GgufWriter writer = TinyGguf(GetParam().family);
  GetParam().spoil(writer);
  const absl::Status status = ReadTokenizer(writer).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

auto Set(const char* key, std::string value) {
  return [key, value](GgufWriter& writer) { writer.Set(key, value); };
}

INSTANTIATE_TEST_SUITE_P(
    Keys, BadGgufTokenizerTest,
    testing::Values(
        BadTokenizer{"UnknownKind", ModelFamily::kLlama, Set("tokenizer.ggml.model", Value("bert")),
                     "tokenizer.ggml.model: \"bert\" is not supported; known: gpt2"},
        BadTokenizer{"NoTokens", ModelFamily::kLlama,
                     [](GgufWriter& w) { w.Erase("tokenizer.ggml.tokens"); },
                     "tokenizer.ggml.tokens: metadata key is missing"},
        BadTokenizer{"FewerTokensThanEmbeddings", ModelFamily::kLlama,
                     Set("tokenizer.ggml.tokens", ArrayValue(std::vector<std::string>(11, "t"))),
                     "tokenizer.ggml.tokens: has 11 elements, the embedding has 12 rows"},
        BadTokenizer{"MoreTokensThanEmbeddings", ModelFamily::kLlama,
                     Set("tokenizer.ggml.tokens", ArrayValue(std::vector<std::string>(13, "t"))),
                     "tokenizer.ggml.tokens: has 13 elements"},
        BadTokenizer{"TokensOfAnotherType", ModelFamily::kLlama,
                     Set("tokenizer.ggml.tokens", ArrayValue(std::vector<int32_t>(12, 1))),
                     "tokenizer.ggml.tokens: is an array of int32"},
        BadTokenizer{"FewerTypes", ModelFamily::kLlama,
                     Set("tokenizer.ggml.token_type", ArrayValue(std::vector<int32_t>(2, 1))),
                     "tokenizer.ggml.token_type: has 2 elements"},
        BadTokenizer{"TypeOutOfRange", ModelFamily::kLlama,
                     Set("tokenizer.ggml.token_type", ArrayValue(std::vector<int32_t>(12, 7))),
                     "tokenizer.ggml.token_type[0]: is 7"},
        BadTokenizer{"NoMerges", ModelFamily::kLlama,
                     [](GgufWriter& w) { w.Erase("tokenizer.ggml.merges"); },
                     "tokenizer.ggml.merges: metadata key is missing"},
        BadTokenizer{"MergeOfOneToken", ModelFamily::kLlama,
                     Set("tokenizer.ggml.merges", ArrayValue(std::vector<std::string>{"ab"})),
                     "tokenizer.ggml.merges[0]: \"ab\" is not two tokens"},
        BadTokenizer{"EmptyMerge", ModelFamily::kLlama,
                     Set("tokenizer.ggml.merges", ArrayValue(std::vector<std::string>{""})),
                     "tokenizer.ggml.merges[0]: \"\" is not two tokens"},
        BadTokenizer{"FewerScores", ModelFamily::kGemma3,
                     Set("tokenizer.ggml.scores", ArrayValue(std::vector<float>(3, 0.0f))),
                     "tokenizer.ggml.scores: has 3 elements"},
        BadTokenizer{"NegativeId", ModelFamily::kLlama,
                     Set("tokenizer.ggml.bos_token_id", Value<int32_t>(-1)),
                     "tokenizer.ggml.bos_token_id: is -1, must be in 0 … 11"},
        BadTokenizer{"IdBeyondVocabulary", ModelFamily::kLlama,
                     Set("tokenizer.ggml.eos_token_id", Value<uint32_t>(12)),
                     "tokenizer.ggml.eos_token_id: is 12"},
        BadTokenizer{"SwitchOfAnotherType", ModelFamily::kLlama,
                     Set("tokenizer.ggml.add_bos_token", Value("yes")),
                     "tokenizer.ggml.add_bos_token: is a string, must be a bool"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kvec
