#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>

#include "coordinator/text/tokenizer.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kBos = 1, kEos = 2, kFirstByte = 3, kAb = 259, kSpaceA = 260, kA = 261, kB = 262;

TEST(SentencePieceBpeTest, MergesByScoreAndFallsBackToBytes) {
  const auto tokenizer = MakeTokenizer(SmallSentencePieceData());
  EXPECT_THAT(*tokenizer->Encode("ab ab a b", {}),
              ElementsAre(kBos, kAb, 263, kAb, kSpaceA, 263, kB));
  EXPECT_THAT(*tokenizer->Encode(std::string("\xC3\xA9\0", 3), {.add_special = false}),
              ElementsAre(kFirstByte + 0xC3, kFirstByte + 0xA9, kFirstByte));
}

TEST(SentencePieceBpeTest, SplitsSpecialTokensOffFirst) {
  const auto tokenizer = MakeTokenizer(SmallSentencePieceData());
  EXPECT_THAT(*tokenizer->Encode("a<eos>b", {.add_special = false}), ElementsAre(kA, kEos, kB));
  EXPECT_EQ(tokenizer->Encode("a<eos>b", {.add_special = false, .parse_special = false})->size(),
            7u);
}

TEST(SentencePieceBpeTest, GivesBackRandomText) {
  for (const bool add_space_prefix : {false, true}) {
    TokenizerData data = SmallSentencePieceData();
    data.add_space_prefix = add_space_prefix;
    const auto tokenizer = MakeTokenizer(data);
    std::mt19937 generator(8);
    for (int round = 0; round < 300; ++round) {
      const std::string text = RandomText(generator, 30);
      const auto ids = tokenizer->Encode(text, {});
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(tokenizer->Decode(*ids, true), text);
    }
  }
}

TEST(SentencePieceBpeTest, PutsTheSpacePrefixOfModelsThatWantOne) {
  TokenizerData data = SmallSentencePieceData();
  data.add_space_prefix = true;
  EXPECT_THAT(*MakeTokenizer(data)->Encode("a", {}), ElementsAre(kBos, kSpaceA));
}

TEST(SentencePieceBpeTest, EncodesTenMegabytesOfOneLetter) {
  const auto tokenizer = MakeTokenizer(SmallSentencePieceData());
  EXPECT_EQ(tokenizer->Encode(std::string(10'000'000, 'a'), {})->size(), 10'000'001u);
}

TEST(SentencePieceBpeTest, TakesTheFirstOfEqualPiecesAndNeverAnEmptyOne) {
  TokenizerData data = SmallSentencePieceData();
  data.tokens[kB] = data.tokens[kA];
  data.tokens[263].clear();
  EXPECT_THAT(*MakeTokenizer(data)->Encode("aa", {}), ElementsAre(kBos, kA, kA));
}

struct BadVocabulary {
  const char* message;
  void (*spoil)(TokenizerData&);
};

TEST(SentencePieceBpeTest, RejectsVocabulariesThatMakeNoTokenizer) {
  const BadVocabulary cases[] = {
      {"scores: 263 entries for 264", [](TokenizerData& data) { data.scores.pop_back(); }},
      {"scores[5]: nan",
       [](TokenizerData& data) { data.scores[5] = std::numeric_limits<float>::quiet_NaN(); }},
      {"unknown_token_id: 264", [](TokenizerData& data) { data.unknown_id = 264; }},
      {"unknown_token_id: missing",
       [](TokenizerData& data) {
         data.unknown_id.reset();
         data.token_types[0] = TokenizerData::kControl;
       }},
      {"byte token \"<0xZZ>\"", [](TokenizerData& data) { data.tokens[7] = "<0xZZ>"; }},
  };
  for (const BadVocabulary& bad : cases) {
    TokenizerData data = SmallSentencePieceData();
    bad.spoil(data);
    const auto tokenizer = Tokenizer::Create(data);
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << bad.message;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(bad.message));
  }
}

// At most as many tokens as the text is: never refused. Far fewer than it can be: always.
TEST(SentencePieceBpeTest, RefusesByLengthWhatCannotBeSoFewTokens) {
  const auto tokenizer = MakeTokenizer(SmallSentencePieceData());
  std::mt19937 generator(7);
  for (int i = 0; i < 200; ++i) {
    const std::string text = RandomText(generator, 20);
    const auto ids = tokenizer->Encode(text, {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    const auto again = tokenizer->Encode(text, {.max_tokens = std::max<size_t>(1, ids->size())});
    EXPECT_TRUE(again.ok()) << again.status();
  }
  const auto ids = tokenizer->Encode(std::string(10'000, 'a'), {.max_tokens = 100});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ids.status().message(), HasSubstr("text: 10000 bytes are at least "));
}

}  // namespace
}  // namespace kvec::coordinator::text
