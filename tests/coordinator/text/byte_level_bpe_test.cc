#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/text/tokenizer.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kHe = 256, kHello = 259, kSpaceW = 260, kAaaa = 262, kBos = 263, kEnd = 264,
                  kThink = 265;

std::vector<int32_t> Encode(const Tokenizer& tokenizer, absl::string_view text,
                            const EncodeOptions& options = {}) {
  const auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.value_or(std::vector<int32_t>());
}

TEST(ByteLevelBpeTest, MergesWithinPieces) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  EXPECT_THAT(Encode(*tokenizer, "hello w"), ElementsAre(kHello, kSpaceW));
  EXPECT_THAT(Encode(*tokenizer, "heaaaaa"), ElementsAre(kHe, kAaaa, 'a'));
  EXPECT_THAT(Encode(*tokenizer, std::string("\0\xC3\xA9", 3)), ElementsAre(0, 0xC3, 0xA9));
  EXPECT_THAT(Encode(*tokenizer, ""), ElementsAre());
}

TEST(ByteLevelBpeTest, AddsBosAndEosWhereTheModelAsksForThem) {
  TokenizerData data = SmallByteLevelData();
  data.add_bos = true;
  data.add_eos = true;
  const auto tokenizer = MakeTokenizer(data);
  EXPECT_THAT(Encode(*tokenizer, "a"), ElementsAre(kBos, 'a', kEnd));
  EXPECT_THAT(Encode(*tokenizer, ""), ElementsAre(kBos, kEnd));
  EXPECT_THAT(Encode(*tokenizer, "a", {.add_special = false}), ElementsAre('a'));
}

TEST(ByteLevelBpeTest, ParsesControlTokensOnlyWhereAllowed) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  EXPECT_THAT(Encode(*tokenizer, "<|end|><think>a"), ElementsAre(kEnd, kThink, 'a'));
  EXPECT_THAT(Encode(*tokenizer, "<|end|><think>", {.parse_special = false}),
              ElementsAre('<', '|', 'e', 'n', 'd', '|', '>', kThink));
}

TEST(ByteLevelBpeTest, KeepsMergesAcrossTheBordersOfPlainRanges) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  const ByteRange typed[] = {{10, 19}};  // "lo<|end|>"
  EXPECT_THAT(Encode(*tokenizer, "<|end|>hello<|end|><|end|>", {.plain_ranges = typed}),
              ElementsAre(kEnd, kHello, '<', '|', 'e', 'n', 'd', '|', '>', kEnd));
}

TEST(ByteLevelBpeTest, RejectsTextThatIsNotUtf8AndNamesTheByte) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  const auto ids = tokenizer->Encode("abc\xFF", {});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(ids.status().message(), HasSubstr("byte 3"));
}

TEST(ByteLevelBpeTest, GivesBackRandomText) {
  std::mt19937 generator(5);
  for (const char* name : {"gpt-2", "smollm", "llama-bpe", "tekken"}) {
    TokenizerData data = SmallByteLevelData();
    data.pre_tokenizer = name;
    const auto tokenizer = MakeTokenizer(data);
    for (int round = 0; round < 300; ++round) {
      const std::string text = RandomText(generator, 30);
      EXPECT_EQ(tokenizer->Decode(Encode(*tokenizer, text), false), text) << name;
    }
  }
}

TEST(ByteLevelBpeTest, NormalizesWhereTheFamilyDoes) {
  TokenizerData data = SmallByteLevelData();
  data.pre_tokenizer = "qwen2";
  const auto tokenizer = MakeTokenizer(data);
  EXPECT_THAT(Encode(*tokenizer, "e\xCC\x81"), ElementsAre(0xC3, 0xA9));
  std::string marks = "e";
  for (int i = 0; i < 1001; ++i) absl::StrAppend(&marks, "\xCC\x81");
  EXPECT_THAT(tokenizer->Encode(marks, {}).status().message(),
              HasSubstr("combining marks in a row at byte 2001"));
}

TEST(ByteLevelBpeTest, TakesAPieceThatIsATokenWholeWhereMergesAreIgnored) {
  TokenizerData data = SmallByteLevelData();
  data.tokens.emplace_back("xyz");  // no merge leads here
  data.token_types.push_back(TokenizerData::kNormal);
  EXPECT_THAT(Encode(*MakeTokenizer(data), "xyz"), ElementsAre('x', 'y', 'z'));
  data.pre_tokenizer = "llama-bpe";
  EXPECT_THAT(Encode(*MakeTokenizer(data), "xyz"), ElementsAre(266));
  EXPECT_THAT(Encode(*MakeTokenizer(data), "xyzx"), ElementsAre('x', 'y', 'z', 'x'));
}

TEST(ByteLevelBpeTest, LeavesOutBytesThatHaveNoToken) {
  TokenizerData data = SmallByteLevelData();
  data.tokens[4] = "unreachable";
  EXPECT_THAT(Encode(*MakeTokenizer(data),
                     "a\x04"
                     "b"),
              ElementsAre('a', 'b'));
}

// Quadratic work would take hours here.
TEST(ByteLevelBpeTest, EncodesTenMegabytesOfAnything) {
  constexpr size_t kSize = 10'000'000;
  std::mt19937 generator(6);
  std::string mixed;
  while (mixed.size() < kSize) mixed += RandomText(generator, 1000);
  std::string openings;
  while (openings.size() < kSize) absl::StrAppend(&openings, "<|en");
  const std::pair<const char*, std::string> cases[] = {{"gpt-2", std::string(kSize, 'a')},
                                                       {"gpt-2", mixed},
                                                       {"gpt-2", openings},
                                                       {"smollm", std::string(kSize, '1')},
                                                       {"llama-bpe", std::string(kSize, ' ')}};
  for (const auto& [name, text] : cases) {
    TokenizerData data = SmallByteLevelData();
    data.pre_tokenizer = name;
    const auto tokenizer = MakeTokenizer(data);
    EXPECT_TRUE(tokenizer->Decode(Encode(*tokenizer, text), false) == text) << name;
  }
}

TEST(ByteLevelBpeTest, ServesManyThreadsAtOnce) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
  std::mt19937 generator(7);
  const std::string text = RandomText(generator, 300);
  const std::vector<int32_t> expected = Encode(*tokenizer, text);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) EXPECT_EQ(Encode(*tokenizer, text), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

struct BadVocabulary {
  const char* message;
  void (*spoil)(TokenizerData&);
};

TEST(ByteLevelBpeTest, RejectsVocabulariesThatMakeNoTokenizer) {
  const BadVocabulary cases[] = {
      {"tokens: empty", [](TokenizerData& data) { data.tokens.clear(); }},
      {"token_type: 265 entries for 266", [](TokenizerData& data) { data.token_types.pop_back(); }},
      {"token_type[3]: unknown type 77", [](TokenizerData& data) { data.token_types[3] = 77; }},
      {"merges[7]: \"nospace\"", [](TokenizerData& data) { data.merges.emplace_back("nospace"); }},
      {"merges[7]: \"q u\"", [](TokenizerData& data) { data.merges.emplace_back("q u"); }},
      {"unknown pre-tokenizer \"best-ever\"",
       [](TokenizerData& data) { data.pre_tokenizer = "best-ever"; }},
      {"bos_id is 266", [](TokenizerData& data) { data.bos_id = 266; }},
      {"bos_id is -1", [](TokenizerData& data) { data.bos_id = -1; }},
      {"eos_id is 9999", [](TokenizerData& data) { data.eos_ids = {9999}; }},
      {"no bos_id",
       [](TokenizerData& data) {
         data.bos_id.reset();
         data.add_bos = true;
       }},
      {"no eos_id",
       [](TokenizerData& data) {
         data.eos_ids.clear();
         data.add_eos = true;
       }},
      {"special token 263: its text has 0 bytes",
       [](TokenizerData& data) { data.tokens[263].clear(); }},
  };
  for (const BadVocabulary& bad : cases) {
    TokenizerData data = SmallByteLevelData();
    bad.spoil(data);
    const auto tokenizer = Tokenizer::Create(data);
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << bad.message;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(bad.message));
  }
}

// At most as many tokens as the text is: never refused. Far fewer than it can be: always.
TEST(ByteLevelBpeTest, RefusesByLengthWhatCannotBeSoFewTokens) {
  const auto tokenizer = MakeTokenizer(SmallByteLevelData());
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
