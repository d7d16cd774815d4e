#include "common/security/token_hashes.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/security/secret.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::security {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(TokenHashesTest, TakesTheTokensOfItsLinesAndNoOthers) {
  const absl::StatusOr<TokenHashes> tokens = TokenHashes::Parse(
      absl::StrCat("# for the shop\n\n", Sha256Hex("one"), "  alice of the shop\n  ",
                   absl::AsciiStrToUpper(Sha256Hex("two")), "\t-\r\n", Sha256Hex("three")));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), 3);
  for (const char* token : {"one", "two", "three"}) EXPECT_TRUE(tokens->Contains(token)) << token;
  for (const std::string& token :
       {std::string(), std::string("On"), std::string("onee"), std::string("alice"),
        Sha256Hex("one"), std::string("one\0", 4)}) {
    EXPECT_FALSE(tokens->Contains(token)) << token;
  }
}

TEST(TokenHashesTest, AnEmptyFileTakesNothing) {
  const absl::StatusOr<TokenHashes> tokens = TokenHashes::Parse("# nobody\n");
  ASSERT_TRUE(tokens.ok());
  EXPECT_FALSE(tokens->Contains(""));
  EXPECT_FALSE(tokens->Contains("# nobody"));
}

TEST(TokenHashesTest, NamesAMalformedLineWithoutRepeatingIt) {
  const std::string good = Sha256Hex("one");
  for (const std::string& line :
       {std::string("kvec_secret"), absl::StrCat(good.substr(1), " secret"),
        absl::StrCat(good, "0"), absl::StrCat("g", good.substr(1)),
        absl::StrCat(good, ":secret")}) {
    const absl::Status status = TokenHashes::Parse(absl::StrCat(good, "\n", line, "\n")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(status.message(), HasSubstr("line 2: "));
    EXPECT_THAT(status.message(), Not(HasSubstr(line)));
    EXPECT_THAT(status.message(), Not(HasSubstr("secret")));
  }
}

TEST(TokenHashesTest, IsOfOneToken) {
  EXPECT_TRUE(TokenHashes::Of("join").Contains("join"));
  EXPECT_FALSE(TokenHashes::Of("join").Contains("Join"));
}

}  // namespace
}  // namespace kvec::security
