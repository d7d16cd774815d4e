#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/security/secret.h"
#include "common/security/token_hashes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(TokenCommandTest, PrintsATokenAndItsLineApart) {
  const CommandResult result = RunKvec({"token", "--name", "alice"});
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  const absl::string_view token = absl::StripAsciiWhitespace(result.out);
  EXPECT_EQ(result.err, absl::StrCat(security::Sha256Hex(token), "  alice\n"));
  EXPECT_NE(RunKvec({"token"}).out, result.out);
}

TEST(TokenCommandTest, AppendsLinesThatACoordinatorReads) {
  const std::string path = testing::TempDir() + "/kvec_token_command_test.txt";
  std::remove(path.c_str());
  const std::string first = RunKvec({"token", "--append", path}).out;
  const CommandResult second = RunKvec({"token", "--append", path, "--name", "bob's laptop"});
  EXPECT_EQ(second.err, "");
  const std::string text = ReadFile(path);
  EXPECT_THAT(text, Not(HasSubstr("kvec_")));
  const auto tokens = security::TokenHashes::Parse(text);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->size(), 2);
  EXPECT_TRUE(tokens->Contains(absl::StripAsciiWhitespace(first)));
  EXPECT_TRUE(tokens->Contains(absl::StripAsciiWhitespace(second.out)));
  struct stat info = {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600);
}

TEST(TokenCommandTest, HashesATokenThatIsThere) {
  const CommandResult result = RunKvec({"token", "--hash", "--name", "carol"}, "abc\n");
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_EQ(result.out,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  carol\n");
  EXPECT_EQ(result.err, "");
}

TEST(TokenCommandTest, RefusesWhatCanBeNoToken) {
  for (const char* input : {"", "\n", "two words\n"}) {
    const CommandResult result = RunKvec({"token", "--hash"}, input);
    EXPECT_EQ(result.exit_code, ExitCode::kFailed) << input;
    EXPECT_THAT(result.err, HasSubstr("standard input: the token"));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(RunKvec({"token", "--name", "a\nb"}).exit_code, ExitCode::kFailed);
  EXPECT_EQ(RunKvec({"token", "--append", "/no/such/folder/tokens"}).exit_code, ExitCode::kFailed);
}

}  // namespace
}  // namespace kvec::coordinator::client
