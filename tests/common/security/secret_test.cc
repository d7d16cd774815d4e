#include "common/security/secret.h"

#include <cstdlib>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"

namespace kvec::security {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kVariable[] = "KVEC_SECRET_TEST_TOKEN";

TEST(SecretTest, HashesAsSha256sumDoes) {
  // FIPS 180-2, appendix B.1, and the hash of nothing.
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(SecretTest, MakesTokensThatDifferAndNeedNoQuoting) {
  std::set<std::string> tokens;
  for (int i = 0; i < 1000; ++i) {
    const std::string token = MakeToken();
    EXPECT_THAT(token, testing::MatchesRegex("kvec_[A-Za-z0-9_-]+"));
    EXPECT_EQ(token.size(), 48);
    EXPECT_TRUE(CheckToken(token).ok());
    EXPECT_TRUE(tokens.insert(token).second);
  }
}

TEST(SecretTest, ReadsATokenFromAFileOrElseTheEnvironment) {
  const TempFolder folder;
  const std::string path = folder.Write("token", " from-the-file\r\n");
  ASSERT_EQ(setenv(kVariable, "from-the-environment", 1), 0);
  EXPECT_EQ(*ReadToken(path, kVariable), "from-the-file");
  EXPECT_EQ(*ReadToken("", kVariable), "from-the-environment");
  ASSERT_EQ(unsetenv(kVariable), 0);
  EXPECT_EQ(*ReadToken("", kVariable), "");
}

TEST(SecretTest, RefusesWhatCanBeNoTokenWithoutRepeatingIt) {
  const TempFolder folder;
  for (const std::string& text :
       {std::string(), std::string(" \n"), std::string("hush hush"), std::string("hush\x01"),
        std::string("hush\xc3\xa9"), std::string("hush\nhush"), "hush" + std::string(5000, 'x')}) {
    const std::string path = folder.Write("token", text);
    const absl::Status status = ReadToken(path, kVariable).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr(path));
    EXPECT_THAT(status.message(), Not(HasSubstr("hush")));
  }
  EXPECT_EQ(ReadToken(folder.File("none"), kVariable).status().code(), absl::StatusCode::kNotFound);
}

TEST(SecretTest, ReadsNoMoreOfAFileThanIsAllowed) {
  const TempFolder folder;
  EXPECT_EQ(ReadSmallFile(folder.Write("eight", "12345678"), 8).value(), "12345678");
  EXPECT_EQ(ReadSmallFile(folder.Write("nine", "123456789"), 8).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadSmallFile("/dev/zero").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ReadSmallFile(folder.path()).ok());
}

}  // namespace
}  // namespace kvec::security
