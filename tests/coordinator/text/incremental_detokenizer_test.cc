#include "coordinator/text/incremental_detokenizer.h"

#include <gtest/gtest.h>

#include "coordinator/text/utf8.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

constexpr int32_t kEnd = 264;
constexpr int32_t kThink = 265;

TEST(IncrementalDetokenizerTest, EmitsOnlyWholeCharacters) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  IncrementalDetokenizer detokenizer(*tokenizer, true);
  EXPECT_EQ(detokenizer.Push('a'), "a");
  EXPECT_EQ(detokenizer.Push(0xF0), "");
  EXPECT_EQ(detokenizer.Push(0x9F), "");
  EXPECT_EQ(detokenizer.Push(0x98), "");
  EXPECT_EQ(detokenizer.Push(0x80), "\xF0\x9F\x98\x80");
  EXPECT_EQ(detokenizer.Push(0xC3), "");
  EXPECT_EQ(detokenizer.Push('z'), "\xEF\xBF\xBDz");
  EXPECT_EQ(detokenizer.Flush(), "");
  EXPECT_EQ(detokenizer.Push(0xE2), "");
  EXPECT_EQ(detokenizer.Flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(IncrementalDetokenizerTest, HidesControlTokensAndShowsUserDefinedOnes) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  EXPECT_EQ(tokenizer->Decode({'a', kEnd, kThink, 'b'}, true), "a<think>b");
  EXPECT_EQ(tokenizer->Decode({'a', kEnd, kThink, 'b'}, false), "a<|end|><think>b");
}

TEST(IncrementalDetokenizerTest, AddsNothingForIdsBeyondTheVocabulary) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  EXPECT_EQ(tokenizer->Decode({'a', tokenizer->vocab_size(), INT32_MAX, 'b'}, true), "ab");
}

TEST(IncrementalDetokenizerTest, IsAlwaysValidAndInAnySplitTheWholeText) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  std::mt19937 generator(4);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(generator() % 20);
    // Mostly the leads and continuations of multi-byte characters.
    for (int32_t& id : ids) id = static_cast<int32_t>(0x70 + generator() % 0x90);
    IncrementalDetokenizer detokenizer(*tokenizer, false);
    std::string text;
    for (const int32_t id : ids) {
      const std::string part = detokenizer.Push(id);
      EXPECT_EQ(FindInvalidUtf8(part), absl::string_view::npos);
      text += part;
    }
    text += detokenizer.Flush();
    EXPECT_EQ(text, tokenizer->Decode(ids, false));
  }
}

TEST(SentenceEndBitsTest, MarksNewlinesAndFinalMarks) {
  TokenizerData data = SmallByteLevelData();
  const int first = static_cast<int>(data.tokens.size());
  for (const char* token : {"ok.",
                            "a\xC4\x8A"
                            "b",
                            ".a", "?\xC4\xA0"}) {  // Ċ: newline, Ġ: space
    data.tokens.emplace_back(token);
    data.token_types.push_back(TokenizerData::kNormal);
  }
  const auto tokenizer = MakeTokenizer(data);
  const std::string bits = SentenceEndBits(*tokenizer);
  ASSERT_EQ(bits.size(), (data.tokens.size() + 7) / 8);
  const auto is_set = [&](int id) { return (bits[id / 8] >> (id % 8) & 1) != 0; };
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(is_set(byte),
              absl::string_view(".!?;\n").find(static_cast<char>(byte)) != absl::string_view::npos)
        << byte;
  }
  EXPECT_TRUE(is_set(first));
  EXPECT_TRUE(is_set(first + 1));
  EXPECT_FALSE(is_set(first + 2));
  EXPECT_FALSE(is_set(first + 3));
}

TEST(SentenceEndBitsTest, SeesOtherScriptsMarksAndMarksBeforeClosers) {
  TokenizerData data = SmallByteLevelData();
  const int first = static_cast<int>(data.tokens.size());
  for (const char* token : {".\"", "!)'", "a\"", "\")", "ãĢĤ"}) {  // ãĢĤ: 。
    data.tokens.emplace_back(token);
    data.token_types.push_back(TokenizerData::kNormal);
  }
  const auto tokenizer = MakeTokenizer(data);
  const std::string bits = SentenceEndBits(*tokenizer);
  const auto is_set = [&](int id) { return (bits[id / 8] >> (id % 8) & 1) != 0; };
  EXPECT_TRUE(is_set(first));
  EXPECT_TRUE(is_set(first + 1));
  EXPECT_FALSE(is_set(first + 2));
  EXPECT_FALSE(is_set(first + 3));
  EXPECT_TRUE(is_set(first + 4));
}

}  // namespace
}  // namespace kvec::coordinator::text
