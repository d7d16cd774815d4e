#include <memory>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(StatusCommandTest, ShowsModelQueuesAndWorkers) {
  FakeCoordinator coordinator(AnswerWith({}));
  const CommandResult result = RunKvec({"status", "--target", coordinator.target()});
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_THAT(result.out, HasSubstr("tiny (llama): 2 layers, 4 query and 2 KV heads of 8"));
  EXPECT_THAT(result.out, HasSubstr("3 waiting"));
  EXPECT_THAT(result.out, HasSubstr("full, kvec (default: full)"));
  EXPECT_THAT(result.out, HasSubstr("worker-1"));
  EXPECT_THAT(result.out, HasSubstr("4 of 64"));
  EXPECT_THAT(result.out, HasSubstr("64.0 KiB"));
}

TEST(StatusCommandTest, PrintsOneJsonObject) {
  FakeCoordinator coordinator(AnswerWith({}));
  const CommandResult result = RunKvec({"status", "--target", coordinator.target(), "--json"});
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json.at("model").at("name"), "tiny");
  EXPECT_EQ(json.at("model").at("has_chat_template"), false);
  EXPECT_EQ(json.at("num_requests_waiting"), 3);
  EXPECT_EQ(json.at("workers").at(1).at("free_pages"), 60);
}

TEST(StatusCommandTest, WatchesWithRatesAndRequests) {
  FakeCoordinator coordinator(AnswerWith({}));
  const CommandResult result = RunKvec(
      {"status", "--target", coordinator.target(), "--watch", "--interval", "0.1", "--count", "2"});
  EXPECT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  EXPECT_THAT(result.out, HasSubstr("worker-1"));
  EXPECT_THAT(result.out, HasSubstr("r-1      decode      40   40         12        1"));
  EXPECT_THAT(result.out, HasSubstr("and 3 more"));
  // Between the two looks: 10 Steps, 100 generated tokens, 2 seconds by the coordinator's clock.
  EXPECT_THAT(result.out, HasSubstr("50.0 generated tokens/s, 5.0 steps/s"));
  EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));  // no terminal
}

TEST(StatusCommandTest, GoesOnWatchingWhileThereIsNoAnswer) {
  auto coordinator = std::make_unique<FakeCoordinator>(AnswerWith({}));
  const std::string target = coordinator->target();
  coordinator->FailStatusFrom(2);
  const CommandResult result =
      RunKvec({"status", "--target", target, "--watch", "--interval", "0.1", "--count", "3"});
  EXPECT_EQ(result.exit_code, ExitCode::kDone);
  EXPECT_THAT(result.out, HasSubstr(target + ": not now\n" + target + ": not now\n"));
}

TEST(StatusCommandTest, WaitsUntilTheWorkersServe) {
  FakeCoordinator coordinator(AnswerWith({}), FakeCoordinator::Health::kNotServing);
  std::thread serve([&coordinator] { coordinator.SetServing(); });
  const CommandResult result =
      RunKvec({"status", "--target", coordinator.target(), "--wait-ready", "60"});
  serve.join();
  EXPECT_EQ(result.exit_code, ExitCode::kDone) << result.err;
}

TEST(StatusCommandTest, SaysWhyItStoppedWaiting) {
  FakeCoordinator coordinator(AnswerWith({}), FakeCoordinator::Health::kNotServing);
  const CommandResult not_ready =
      RunKvec({"status", "--target", coordinator.target(), "--wait-ready", "0.1"});
  EXPECT_EQ(not_ready.exit_code, ExitCode::kFailed);
  EXPECT_THAT(not_ready.err, HasSubstr("workers is not ready"));
  const CommandResult nobody =
      RunKvec({"status", "--target", "127.0.0.1:1", "--wait-ready", "0.1"});
  EXPECT_EQ(nobody.exit_code, ExitCode::kFailed);
  EXPECT_THAT(nobody.err, HasSubstr("no coordinator answers there"));
}

}  // namespace
}  // namespace kvec::coordinator::client
