// How a group's workers wait for each other, and how they stop.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/group_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using ::testing::HasSubstr;

constexpr int kPromptTokens = 40;

std::vector<int32_t> Prompt(uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(kPromptTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 250);
  return tokens;
}

std::unique_ptr<ModelFiles> OpenLlama() {
  auto files = ModelFiles::Open(TinyModelFolder("llama"));
  EXPECT_TRUE(files.ok()) << files.status();
  return *std::move(files);
}

v1::Step PrefillStep(uint64_t step_id, uint64_t id) {
  v1::Step step;
  step.set_step_id(step_id);
  v1::StepSampling sampling = EngineHarness::GreedySampling();
  sampling.set_temperature(1);
  sampling.set_seed(id);
  EngineHarness::AddStart(id, kPromptTokens, sampling, step);
  EngineHarness::AddWork(id, Prompt(static_cast<uint32_t>(id)), 0, true, true, step);
  return step;
}

v1::Step DecodeStep(uint64_t step_id, uint64_t id, int position) {
  v1::Step step;
  step.set_step_id(step_id);
  EngineHarness::AddWork(id, {}, position, false, true, step);
  return step;
}

// Sequences that take turns: no Step depends on the one before it.
std::vector<v1::Step> Turns(int num_sequences, int num_rounds) {
  std::vector<v1::Step> steps;
  for (int round = 0; round < num_rounds; ++round) {
    for (uint64_t id = 1; id <= static_cast<uint64_t>(num_sequences); ++id) {
      steps.push_back(round == 0 ? PrefillStep(steps.size() + 1, id)
                                 : DecodeStep(steps.size() + 1, id, kPromptTokens + round - 1));
    }
  }
  return steps;
}

std::string Results(const v1::StepResult& result) {
  v1::StepResult copy;
  *copy.mutable_results() = result.results();
  return copy.SerializeAsString();
}

TEST(GroupSteps, AStageGoesOnWithStepsThatNeedNoOthersResults) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  EngineHarness alone(TinyModelFolder("llama"), {});
  GroupHarness group(*files, {.shape = {2, 1}, .comm = {.buffered_bytes = size_t{64} << 20}});
  const std::vector<v1::Step> steps = {PrefillStep(1, 1), PrefillStep(2, 2),
                                       DecodeStep(3, 1, kPromptTokens)};
  std::vector<std::string> expected;
  for (const v1::Step& step : steps) expected.push_back(Results(alone.Run(step)));
  EXPECT_EQ(Results(group.Run(steps[0])), expected[0]);
  // Stage 1 has begun neither of these, yet stage 0 ends both.
  for (int i : {1, 2}) group.SubmitTo(0, steps[i]);
  for (int i : {1, 2}) {
    const auto result = group.TakeFrom(0);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->step_id(), steps[i].step_id());
    EXPECT_EQ(result->results_size(), 0);
  }
  for (int i : {1, 2}) group.SubmitTo(1, steps[i]);
  for (int i : {1, 2}) {
    const auto result = group.TakeFrom(1);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(Results(*result), expected[i]);
  }
}

class GroupStepsTest : public testing::TestWithParam<GroupShape> {};

// Hidden states are longer than what the communicators buffer: they are sent when they are
// received.
TEST_P(GroupStepsTest, AnyNumberOfStepsInFlightComesToItsEnd) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  EngineHarness alone(TinyModelFolder("llama"), {});
  GroupHarness group(*files, {.shape = GetParam(), .comm = {}});
  for (const int num_sequences : {1, 2, 5}) {
    group.FormAgain();
    alone.engine().Reset();
    const std::vector<v1::Step> steps = Turns(num_sequences, 8);
    for (const v1::Step& step : steps) group.Submit(step);
    for (const v1::Step& step : steps) {
      const v1::StepResult expected = alone.Run(step);
      const v1::StepResult actual = group.Take();
      ASSERT_EQ(actual.results_size(), 1);
      ASSERT_EQ(actual.results(0).token_id(), expected.results(0).token_id());
      if (GetParam().num_ranks > 1) continue;
      EXPECT_EQ(Results(actual), Results(expected));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, GroupStepsTest,
                         testing::Values(GroupShape{1, 1}, GroupShape{1, 2}, GroupShape{2, 1},
                                         GroupShape{3, 1}, GroupShape{2, 2}, GroupShape{3, 3}),
                         [](const auto& info) {
                           return "tp" + std::to_string(info.param.num_ranks) + "_pp" +
                                  std::to_string(info.param.num_stages);
                         });

TEST(GroupSteps, AbortEndsAStepAndTheNextGroupBeginsAnew) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  for (const GroupShape shape : {GroupShape{2, 1}, GroupShape{1, 2}}) {
    GroupHarness group(*files, {.shape = shape, .comm = {}});
    const std::string expected = Results(group.Run(PrefillStep(1, 1)));
    for (int round = 0; round < 2; ++round) {
      group.FormAgain();
      // The other worker never gets the Step.
      group.SubmitTo(0, PrefillStep(1, 1));
      group.Abort();
      EXPECT_EQ(group.TakeFrom(0).status().code(), absl::StatusCode::kUnavailable);
    }
    group.FormAgain();
    EXPECT_EQ(Results(group.Run(PrefillStep(1, 1))), expected);
  }
}

TEST(GroupSteps, AMissingPeerIsADeadlineNotAHang) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  GroupHarness group(*files, {.shape = {1, 2}, .comm = {.deadline = absl::Seconds(1)}});
  group.SubmitTo(1, PrefillStep(1, 1));
  absl::StatusOr<v1::StepResult> result = group.TakeFrom(1);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(GroupSteps, AnEngineOfAPartNeedsItsGroup) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  Progress progress;
  auto engine =
      Engine::Create(*files, **device,
                     {.layers = {1, 2}, .rank = 1, .num_ranks = 2, .kv_bytes = 1 << 20}, progress);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto expect_refused = [&](comm::GroupComm* comm) {
    (*engine)->SetComm(comm);
    const auto result = (*engine)->Execute(PrefillStep(1, 1));
    EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(result.status().message(), HasSubstr("holds layers 1 … 2 as rank 1 of 2"));
  };
  expect_refused(nullptr);
  const auto two_stages = comm::MakeThreadGroup(2, 2);
  expect_refused(two_stages[0].get());  // the first stage
  expect_refused(two_stages[2].get());  // rank 0
  const auto three_ranks = comm::MakeThreadGroup(2, 3);
  expect_refused(three_ranks[4].get());
}

TEST(GroupSteps, MoreRanksThanQueryHeadsAreRefused) {
  const std::unique_ptr<ModelFiles> files = OpenLlama();
  auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  Progress progress;
  const auto engine =
      Engine::Create(*files, **device,
                     {.layers = {0, 3}, .rank = 0, .num_ranks = 5, .kv_bytes = 1 << 20}, progress);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(engine.status().message(), HasSubstr("num_ranks: 5"));
}

}  // namespace
}  // namespace kvec::worker::engine
