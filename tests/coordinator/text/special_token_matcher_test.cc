#include "coordinator/text/special_token_matcher.h"

#include <gtest/gtest.h>

namespace kvec::coordinator::text {
namespace {

using Kind = SpecialTokenMatcher::Kind;

class SpecialTokenMatcherTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(matcher_.Add("<a>", 1, Kind::kControl).ok());
    ASSERT_TRUE(matcher_.Add("<a><b>", 2, Kind::kControl).ok());
    ASSERT_TRUE(matcher_.Add("\n\n", 3, Kind::kUserDefined).ok());
  }
  // "id@begin-end", or "-".
  std::string Next(absl::string_view text, size_t from, EncodeOptions options = {}) const {
    const auto match = matcher_.Next(text, from, options);
    if (!match.has_value()) return "-";
    return std::to_string(match->id) + "@" + std::to_string(match->begin) + "-" +
           std::to_string(match->end);
  }
  SpecialTokenMatcher matcher_;
};

TEST_F(SpecialTokenMatcherTest, FindsTheLeftmostAndOfThoseTheLongest) {
  EXPECT_EQ(Next("x<a><b>", 0), "2@1-7");
  EXPECT_EQ(Next("x<a><c>", 0), "1@1-4");
  EXPECT_EQ(Next("<<a>", 0), "1@1-4");
  EXPECT_EQ(Next("<a>\n\n", 1), "3@3-5");
  EXPECT_EQ(Next("<a", 0), "-");
  EXPECT_EQ(Next("", 0), "-");
}

TEST_F(SpecialTokenMatcherTest, LeavesControlTokensAsTextWhereTheCallerWantsIt) {
  EXPECT_EQ(Next("<a>\n\n", 0, {.parse_special = false}), "3@3-5");
}

TEST_F(SpecialTokenMatcherTest, RefusesControlTokensThatTouchAPlainRange) {
  const std::string text = "<a><b>\n\n<a>";
  const ByteRange middle[] = {{4, 7}};  // "b>" and a newline
  EXPECT_EQ(Next(text, 0, {.plain_ranges = middle}), "1@0-3");
  EXPECT_EQ(Next(text, 3, {.plain_ranges = middle}), "3@6-8");
  EXPECT_EQ(Next(text, 8, {.plain_ranges = middle}), "1@8-11");
  const ByteRange inside[] = {{0, 1}, {9, 10}};
  EXPECT_EQ(Next("<a>..... <a>", 0, {.plain_ranges = inside}), "-");
}

TEST_F(SpecialTokenMatcherTest, RejectsEmptyAndOverlongTokens) {
  EXPECT_EQ(matcher_.Add("", 9, Kind::kControl).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(matcher_.Add(std::string(257, 'x'), 9, Kind::kControl).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvec::coordinator::text
