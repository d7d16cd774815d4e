#include "coordinator/text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/text/named_pre_tokenizers.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Behavior = SplitRule::Behavior;

std::vector<std::string> Split(const std::vector<SplitRule>& rules, absl::string_view text) {
  const auto pre_tokenizer = PreTokenizer::Create(rules);
  EXPECT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status();
  std::vector<std::string> pieces;
  const absl::Status status = pre_tokenizer->Split(text, [&](absl::string_view piece) {
    pieces.emplace_back(piece);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  return pieces;
}

std::vector<std::string> SplitNamed(absl::string_view name, absl::string_view text) {
  return Split(FindPreTokenizer(name)->rules, text);
}

TEST(PreTokenizerTest, CutsAsEachBehaviourSays) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(Split({{"-", Behavior::kIsolated}}, text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(Split({{"-", Behavior::kRemoveMatches}}, text),
              ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(Split({{"-", Behavior::kRemoveGaps}}, text), ElementsAre("-", "-", "-"));
  EXPECT_THAT(Split({{"-", Behavior::kMergedWithPrevious}}, text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(Split({{"-", Behavior::kMergedWithNext}}, text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(Split({}, text), ElementsAre(text));
}

TEST(PreTokenizerTest, NeverCutsAtEmptyMatches) {
  EXPECT_THAT(Split({{"x*"}}, "a\xC3\xA9xx"), ElementsAre("a\xC3\xA9", "xx"));
}

TEST(PreTokenizerTest, KnowsTheFamiliesPatterns) {
  EXPECT_THAT(SplitNamed("gpt-2", "I'll  pay 1234."),
              ElementsAre("I", "'ll", " ", " pay", " 1234", "."));
  EXPECT_THAT(SplitNamed("smollm", "a  12 b"), ElementsAre("a", "  ", "1", "2", " b"));
  EXPECT_THAT(SplitNamed("llama-bpe", "I'LL pay 1234\n\nx"),
              ElementsAre("I", "'LL", " pay", " ", "123", "4", "\n\n", "x"));
  EXPECT_THAT(SplitNamed("qwen2", "12 (ab)\n"), ElementsAre("1", "2", " (", "ab", ")\n"));
  EXPECT_THAT(SplitNamed("tekken", "camelCase a/\n"), ElementsAre("camel", "Case", " a", "/\n"));
}

TEST(PreTokenizerTest, CountsAsSpacesWhatUnicodeDoes) {
  // U+180E was a space before Unicode 6.3, and is one to PCRE2.
  EXPECT_THAT(SplitNamed("gpt-2", "\xE1\xA0\x8E!"), ElementsAre("\xE1\xA0\x8E!"));
  EXPECT_THAT(SplitNamed("gpt-2", "\xE3\x80\x80!"), ElementsAre("\xE3\x80\x80", "!"));
}

TEST(PreTokenizerTest, NamesTheKnownOnesForAnUnknownName) {
  const auto unknown = FindPreTokenizer("best-ever");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(unknown.status().message(), HasSubstr("\"best-ever\""));
  EXPECT_THAT(unknown.status().message(), HasSubstr("gpt-2, lfm2, llama-bpe"));
}

TEST(PreTokenizerTest, RejectsPatternsThatDoNotCompileAndTooManyRules) {
  EXPECT_THAT(PreTokenizer::Create({{"(a"}}).status().message(), HasSubstr("\"(a\""));
  EXPECT_EQ(PreTokenizer::Create(std::vector<SplitRule>(33, {"a"})).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(PreTokenizerTest, GivesUpOnPatternsThatBacktrackForever) {
  const auto pre_tokenizer = PreTokenizer::Create({{"(?:a+)+b"}});
  ASSERT_TRUE(pre_tokenizer.ok());
  const absl::Status status = pre_tokenizer->Split(
      std::string(64, 'a') + "cb", [](absl::string_view) { return absl::OkStatus(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
}

}  // namespace
}  // namespace kvec::coordinator::text
