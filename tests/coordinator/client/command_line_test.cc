#include "coordinator/client/command_line.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;

TEST(CommandLineTest, ShowsHelpWithExamplesForEveryCommand) {
  for (const char* command : {"generate", "chat", "status", "bench"}) {
    const CommandResult result = RunKvec({command, "--help"});
    EXPECT_EQ(result.exit_code, ExitCode::kDone) << command;
    EXPECT_THAT(result.out, HasSubstr("Examples:")) << command;
    EXPECT_THAT(result.out, HasSubstr("--target")) << command;
  }
}

TEST(CommandLineTest, ShowsItsVersion) {
  const CommandResult result = RunKvec({"--version"});
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_THAT(result.out, testing::StartsWith("kvec 0."));
}

TEST(CommandLineTest, ReportsWrongUsage) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"fly"},
      {"generate", "--fly"},
      {"generate", "--prompt", "p", "--token-ids", "1"},
      {"generate", "--prompt", "p", "--max-tokens", "-1"},
      {"generate", "--prompt", "p", "--max-tokens", "5000000000"},
      {"generate", "--token-ids", "1,x"},
      {"generate", "--prompt", "p", "--temperature", "warm"},
      {"generate", "--prompt", "p", "--budget", "some"},
      {"generate", "--prompt", "p", "--logit-bias", "5:1"},
      {"generate", "--prompt", "p", "--logprobs", "5"},
      {"generate", "--prompt", "p", "--system", "s"},
      {"status", "--wait-ready", "-1"},
      {"bench", "--threads", "2"},
      {"bench", "--prompt-tokens", "0"},
      {"bench", "--model", "m", "--target", "127.0.0.1:1"},
  };
  for (const auto& arguments : wrong) {
    const CommandResult result = RunKvec(arguments);
    EXPECT_EQ(result.exit_code, ExitCode::kWrongUsage) << testing::PrintToString(arguments);
    EXPECT_NE(result.err, "") << testing::PrintToString(arguments);
  }
}

TEST(CommandLineTest, FailsWithTheAddressWhenNobodyAnswers) {
  // Port 1 is reserved: nothing listens there.
  const CommandResult result =
      RunKvec({"generate", "--target", "127.0.0.1:1", "--prompt", "Hello"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("UNAVAILABLE"));
  EXPECT_THAT(result.err, HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace kvec::coordinator::client
