#include "common/model/json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(ParseJsonTest, ReadsEveryKindOfValue) {
  const std::string text =
      R"({"null": null, "true": true, "int": -3, "big": 18446744073709551615, "float": 1.5e3,)"
      R"( "text": "a\u00e9", "list": [1, [2, {}], []], "object": {"inner": {"x": 1}}, "last": 0})";
  const absl::StatusOr<json> document = ParseJson(text);
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(*document, json::parse(text));
}

TEST(ParseJsonTest, LeavesOutTheValueOfTheSkippedKey) {
  const absl::StatusOr<json> document = ParseJson(
      R"({"a": 1, "model": {"model": [{}, {"x": [1, 2]}], "y": "z"}, "b": {"model": 2}})", "model");
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(*document, json::parse(R"({"a": 1, "model": null, "b": {"model": 2}})"));
  EXPECT_EQ(*ParseJson(R"({"model": 5, "b": 6})", "model"),
            json::parse(R"({"model": null, "b": 6})"));
}

TEST(ParseJsonTest, RejectsDeepNestingWithoutUsingTheStack) {
  for (const char* open : {"[", "{\"a\":"}) {
    std::string deep;
    for (int i = 0; i < 1'000'000; ++i) deep += open;
    const absl::Status status = ParseJson(deep).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("nesting: is deeper than 64"));
  }
  const std::string skipped = "{\"model\":" + std::string(1'000'000, '[');
  EXPECT_THAT(std::string(ParseJson(skipped, "model").status().message()),
              HasSubstr("nesting: is deeper than 64"));
}

TEST(ParseJsonTest, AcceptsNestingUpToTheLimit) {
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']')).ok());
  EXPECT_FALSE(ParseJson(std::string(65, '[') + std::string(65, ']')).ok());
}

TEST(ParseJsonTest, RejectsAKeyThatIsThereTwice) {
  EXPECT_THAT(std::string(ParseJson(R"({"x": {"a": 1, "a": 2}})").status().message()),
              HasSubstr("key \"a\": is there twice"));
  EXPECT_FALSE(ParseJson(R"({"model": {}, "model": {}})", "model").ok());
}

TEST(ParseJsonTest, RejectsWhatIsNotJson) {
  for (const std::string text :
       {"", "{", "[1,", "{\"a\" 1}", "nul", "{} x", "\"\xff\"", "1e999", "[1}", "'a'"}) {
    const absl::Status status = ParseJson(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("not JSON at byte")) << text;
  }
}

}  // namespace
}  // namespace kvec
