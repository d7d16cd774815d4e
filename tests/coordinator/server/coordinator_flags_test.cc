#include "coordinator/server/coordinator_flags.h"

#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::HasSubstr;

std::optional<int> Parse(std::vector<std::string> arguments, CoordinatorFlags& flags) {
  arguments.insert(arguments.begin(), "kvec-coordinator");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return ParseCoordinatorFlags(static_cast<int>(argv.size()), argv.data(), flags);
}

TEST(CoordinatorFlagsTest, HasDefaultsForAllButTheModel) {
  CoordinatorFlags flags;
  ASSERT_EQ(Parse({"--model", "m.gguf"}, flags), std::nullopt);
  EXPECT_EQ(flags.model, "m.gguf");
  const auto options = ServerOptions(flags);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->listen, "127.0.0.1:50051");
  EXPECT_EQ(options->cluster_listen, "127.0.0.1:50052");
  EXPECT_EQ(options->metrics_listen, "");
  EXPECT_EQ(options->shape->num_workers(), 1);
  EXPECT_EQ(options->max_request_bytes, 4 << 20);
  EXPECT_EQ(options->heartbeat_timeout, absl::Seconds(10));
}

TEST(CoordinatorFlagsTest, LeavesTheShapeToTheWorkers) {
  CoordinatorFlags flags;
  ASSERT_EQ(Parse({"--model=m", "--parallel=auto"}, flags), std::nullopt);
  const auto options = ServerOptions(flags);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->shape.has_value());
}

TEST(CoordinatorFlagsTest, ReadsFlags) {
  CoordinatorFlags flags;
  ASSERT_EQ(Parse({"--model=m", "--parallel=dp=4,tp=2,pp=3", "--step-tokens=64",
                   "--max-running-sequences=9", "--max-waiting-requests=5",
                   "--max-waiting-tokens=1000", "--max-request-mib=0.5", "--budget-share=0.25"},
                  flags),
            std::nullopt);
  const auto options = ServerOptions(flags);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->shape->num_ranks, 2);
  EXPECT_EQ(options->shape->num_stages, 3);
  EXPECT_EQ(options->shape->num_replicas, 4);
  EXPECT_EQ(options->scheduler.step_tokens, 64);
  EXPECT_EQ(options->scheduler.max_running_sequences, 9);
  EXPECT_EQ(options->scheduler.max_waiting_requests, 5);
  EXPECT_EQ(options->scheduler.max_waiting_tokens, 1000);
  EXPECT_EQ(options->max_request_bytes, 512 << 10);
  EXPECT_EQ(options->default_cache.budget_share(), 0.25f);
}

TEST(CoordinatorFlagsTest, TurnsPrefixCachingOff) {
  CoordinatorFlags flags;
  ASSERT_EQ(Parse({"--model=m", "--prefix-caching=on"}, flags), std::nullopt);
  EXPECT_TRUE(flags.scheduler.prefix_caching);
  ASSERT_EQ(Parse({"--model=m", "--prefix-caching=off"}, flags), std::nullopt);
  EXPECT_FALSE(flags.scheduler.prefix_caching);
  EXPECT_EQ(Parse({"--model=m", "--prefix-caching=maybe"}, flags), 2);
}

TEST(CoordinatorFlagsTest, RejectsTwoBudgets) {
  CoordinatorFlags flags;
  EXPECT_EQ(Parse({"--model=m", "--budget-tokens=256", "--budget-share=0.25"}, flags), 2);
}

TEST(CoordinatorFlagsTest, ReadsAConfigFileBesideFlags) {
  const std::string path = testing::TempDir() + "/kvec_coordinator_flags_test.toml";
  std::ofstream(path) << "model = \"from-file.gguf\"\nparallel = \"tp=2,pp=1\"\nstep-tokens = 33\n";
  CoordinatorFlags flags;
  ASSERT_EQ(Parse({"--config", path, "--step-tokens=44"}, flags), std::nullopt);
  EXPECT_EQ(flags.model, "from-file.gguf");
  EXPECT_EQ(flags.parallel, "tp=2,pp=1");
  EXPECT_EQ(flags.scheduler.step_tokens, 44);  // a flag wins
}

TEST(CoordinatorFlagsTest, HelpAndVersionEndWithZero) {
  CoordinatorFlags flags;
  EXPECT_EQ(Parse({"--help"}, flags), 0);
  EXPECT_EQ(Parse({"--version"}, flags), 0);
}

TEST(CoordinatorFlagsTest, WrongUsageEndsWithTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"--model"},
      {"--model=m", "--no-such-flag"},
      {"--model=m", "--step-tokens=0"},
      {"--model=m", "--step-tokens=many"},
      {"--model=m", "--drain-seconds=-1"},
      {"--model=m", "--log-level=loud"},
      {"--model=m", "--config=/no/such/file"},
  };
  for (const std::vector<std::string>& arguments : wrong) {
    CoordinatorFlags flags;
    EXPECT_EQ(Parse(arguments, flags), 2) << testing::PrintToString(arguments);
  }
}

TEST(CoordinatorFlagsTest, NamesTheFlagWithABadAddressOrShape) {
  struct Case {
    std::string argument;
    std::string message;
  };
  const std::vector<Case> cases = {
      {"--listen=nowhere", "--listen: \"nowhere\""},
      {"--cluster-listen=h:70000", "--cluster-listen: \"h:70000\""},
      {"--metrics-listen=:80", "--metrics-listen: \":80\""},
      {"--parallel=tp=0", "--parallel: parallel shape \"tp=0\""},
      {"--parallel=ep=2", "\"ep=2\" is none of"},
      {"--parallel=tp=2,pp=", "pp is a number"},
  };
  for (const Case& test : cases) {
    CoordinatorFlags flags;
    ASSERT_EQ(Parse({"--model=m", test.argument}, flags), std::nullopt) << test.argument;
    const auto options = ServerOptions(flags);
    EXPECT_EQ(options.status().code(), absl::StatusCode::kInvalidArgument) << test.argument;
    EXPECT_THAT(std::string(options.status().message()), HasSubstr(test.message));
  }
}

TEST(CoordinatorFlagsTest, ReadsAliases) {
  CoordinatorFlags flags;
  ASSERT_EQ(
      Parse({"--model=m", "--alias=kvec-512=127.0.0.1:0", "--alias", "full=127.0.0.1:1"}, flags),
      std::nullopt);
  const auto options = ServerOptions(flags);
  ASSERT_TRUE(options.ok()) << options.status();
  ASSERT_EQ(options->aliases.size(), 2);
  EXPECT_EQ(options->aliases[0].name, "kvec-512");
  EXPECT_EQ(options->aliases[1].listen, "127.0.0.1:1");
}

TEST(CoordinatorFlagsTest, NamesAnAliasThatIsNone) {
  for (const char* alias : {"kvec-512", "kvec-x5=127.0.0.1", "kvec-512=127.0.0.1"}) {
    CoordinatorFlags flags;
    ASSERT_EQ(Parse({"--model=m", absl::StrCat("--alias=", alias)}, flags), std::nullopt);
    EXPECT_THAT(ServerOptions(flags).status().message(), HasSubstr("--alias: ")) << alias;
  }
}

}  // namespace
}  // namespace kvec::coordinator::server
