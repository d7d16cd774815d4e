#include <set>

#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/client/fake_coordinator.h"
#include "tests/coordinator/client/run_kvec.h"

namespace kvec::coordinator::client {
namespace {

// Streams max_tokens tokens; says that the prefill took 10 ms, 1 ms of it for eviction.
grpc::Status Decode(grpc::ServerContext&, const v1::GenerateRequest& request,
                    FakeCoordinator::Writer& writer) {
  const uint32_t num_tokens = request.stopping().max_tokens();
  for (uint32_t i = 0; i < num_tokens; ++i) {
    v1::GenerateResponse message;
    message.add_token_ids(i);
    if (i + 1 == num_tokens) {
      message.set_finish_reason(v1::FINISH_REASON_LENGTH);
      message.mutable_usage()->set_prompt_tokens(request.token_ids().ids_size());
      message.mutable_usage()->set_prefill_ms(10);
      message.mutable_usage()->set_eviction_ms(1);
      message.mutable_usage()->set_kv_bytes(4096);
    }
    writer.Write(message);
  }
  return grpc::Status::OK;
}

std::vector<nlohmann::json> Lines(const std::string& out) {
  std::vector<nlohmann::json> objects;
  for (const auto& line : std::vector<std::string>(absl::StrSplit(out, '\n', absl::SkipEmpty()))) {
    objects.push_back(nlohmann::json::parse(line));
  }
  return objects;
}

TEST(BenchCommandTest, PrintsTheContractsKeysForEveryPoint) {
  FakeCoordinator coordinator(Decode);
  const CommandResult result =
      RunKvec({"bench", "--target", coordinator.target(), "--prompt-tokens", "64,128", "--depth",
               "0", "--policy", "kvec", "--budget", "32", "--runs", "3", "--json"});
  ASSERT_EQ(result.exit_code, ExitCode::kDone) << result.err;
  const auto points = Lines(result.out);
  ASSERT_EQ(points.size(), 3);
  std::set<std::string> keys;
  for (const auto& item : points[0].items()) keys.insert(item.key());
  EXPECT_THAT(keys,
              testing::UnorderedElementsAre("phase", "prompt_tokens", "depth", "batch", "policy",
                                            "budget", "tokens_per_second", "min", "max", "runs",
                                            "kv_bytes", "peak_rss_bytes", "eviction_share"));
  EXPECT_EQ(points[0].at("phase"), "prefill");
  EXPECT_NEAR(points[0].at("tokens_per_second"), 6400, 1e-6);
  EXPECT_NEAR(points[1].at("tokens_per_second"), 12800, 1e-6);
  EXPECT_EQ(points[0].at("policy"), "kvec");
  EXPECT_EQ(points[0].at("budget"), 32);
  EXPECT_EQ(points[0].at("runs"), 3);
  EXPECT_EQ(points[0].at("kv_bytes"), 4096);
  EXPECT_EQ(points[0].at("peak_rss_bytes"), 2000);  // of two workers
  EXPECT_NEAR(points[0].at("eviction_share"), 0.1, 1e-9);
  EXPECT_EQ(points[2].at("phase"), "decode");
  EXPECT_EQ(points[2].at("prompt_tokens"), 1);
  EXPECT_EQ(points[2].at("depth"), 0);
}

TEST(BenchCommandTest, SendsTheRequestsOfABatchAtOnce) {
  constexpr int kBatch = 4;
  struct Counter {
    absl::Mutex mutex;
    int num_arrived ABSL_GUARDED_BY(mutex) = 0;
  } counter;
  // Answers only when the whole batch is there: a client that sends one after the other hangs.
  FakeCoordinator coordinator([&counter](grpc::ServerContext& context,
                                         const v1::GenerateRequest& request,
                                         FakeCoordinator::Writer& writer) {
    {
      absl::MutexLock lock(&counter.mutex);
      const int goal = (counter.num_arrived / kBatch + 1) * kBatch;
      ++counter.num_arrived;
      const auto all_arrived = [&] {
        counter.mutex.AssertHeld();
        return counter.num_arrived >= goal;
      };
      counter.mutex.Await(absl::Condition(&all_arrived));
    }
    return Decode(context, request, writer);
  });
  RunKvec({"bench", "--target", coordinator.target(), "--depth", "16", "--batch", "4", "--runs",
           "1", "--warmup-runs", "0"});
  EXPECT_EQ(coordinator.requests().size(), kBatch);
}

TEST(BenchCommandTest, SendsOtherIdsInEveryRunAndTheSameForTheSameSeed) {
  const auto prompts = [](const std::string& seed) {
    FakeCoordinator coordinator(Decode);
    RunKvec({"bench", "--target", coordinator.target(), "--prompt-tokens", "64", "--runs", "2",
             "--seed", seed});
    std::vector<std::string> prompts;
    for (const v1::GenerateRequest& request : coordinator.requests()) {
      for (const uint32_t id : request.token_ids().ids()) EXPECT_LT(id, 100);
      EXPECT_EQ(request.sampling().temperature(), 0);
      EXPECT_TRUE(request.stopping().ignore_eos());
      prompts.push_back(request.token_ids().ShortDebugString());
    }
    return prompts;
  };
  const auto first = prompts("1");
  ASSERT_EQ(first.size(), 3);  // a warm-up run before the two
  EXPECT_EQ(std::set<std::string>(first.begin(), first.end()).size(), 3);
  EXPECT_EQ(prompts("1"), first);
  EXPECT_NE(prompts("2"), first);
}

TEST(BenchCommandTest, PrintsATableForPeople) {
  FakeCoordinator coordinator(Decode);
  const CommandResult result =
      RunKvec({"bench", "--target", coordinator.target(), "--prompt-tokens", "64", "--runs", "1"});
  EXPECT_THAT(result.out, testing::HasSubstr("tokens/s"));
  EXPECT_THAT(result.out, testing::HasSubstr("6400.0"));
  EXPECT_THAT(result.out, testing::HasSubstr("medians of 1 runs, policy full"));
}

TEST(BenchCommandTest, NeverAsksForMoreThanTheContextHolds) {
  FakeCoordinator coordinator(Decode);
  RunKvec({"bench", "--target", coordinator.target(), "--depth", "200", "--decode-tokens", "500",
           "--runs", "1"});
  EXPECT_EQ(coordinator.requests().at(0).stopping().max_tokens(), 56);  // of 256
}

TEST(BenchCommandTest, NamesThePointThatFailed) {
  FakeCoordinator coordinator(
      [](grpc::ServerContext&, const v1::GenerateRequest&, FakeCoordinator::Writer&) {
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "queue is full");
      });
  const CommandResult result =
      RunKvec({"bench", "--target", coordinator.target(), "--prompt-tokens", "64"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, testing::HasSubstr("RESOURCE_EXHAUSTED: prefill 64: queue is full"));
}

}  // namespace
}  // namespace kvec::coordinator::client
