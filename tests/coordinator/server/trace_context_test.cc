#include "coordinator/server/trace_context.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kParent[] = "00f067aa0ba902b7";

TEST(TraceContextTest, TakesTheTraceIdOfATraceparent) {
  EXPECT_EQ(ParseTraceId(absl::StrCat("00-", kTrace, "-", kParent, "-01")), kTrace);
  EXPECT_EQ(ParseTraceId(absl::StrCat("00-", kTrace, "-", kParent, "-00")), kTrace);
  // Of a version to come, with a field more.
  EXPECT_EQ(ParseTraceId(absl::StrCat("cc-", kTrace, "-", kParent, "-01-what-not")), kTrace);
}

TEST(TraceContextTest, TakesNothingElse) {
  const std::string zeros(32, '0');
  for (const std::string& header :
       {std::string(), std::string("00"), std::string("---"), std::string(kTrace),
        absl::StrCat("00-", kTrace, "-", kParent), absl::StrCat("ff-", kTrace, "-", kParent, "-01"),
        absl::StrCat("00-", kTrace, "-", kParent, "-01-more"),
        absl::StrCat("00-", zeros, "-", kParent, "-01"),
        absl::StrCat("00-", kTrace, "-0000000000000000-01"),
        absl::StrCat("00-", kTrace, "0-", kParent, "-01"),
        absl::StrCat("00-4BF92F3577B34DA6A3CE929D0E0E4736-", kParent, "-01"),
        absl::StrCat("00-4bf92f3577b34da6a3ce929d0e0e473\n-", kParent, "-01")}) {
    EXPECT_EQ(ParseTraceId(header), "") << header;
  }
}

}  // namespace
}  // namespace kvec::coordinator::server
