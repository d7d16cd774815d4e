// Evictions of a group whose ranks gather their scores over NCCL and choose on their GPUs, on the
// host simulator, against the same group whose hosts gather and choose.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/kernel_test.h"
#include "tests/kernels/host_choice_device.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/gpu_group.h"

namespace kvec::worker::engine {
namespace {

enum class Chooser { kDevice, kHost };

struct Outcome {
  v1::EvictionReport report;
  uint64_t exchanged_bytes = 0;  // by one rank
  double exchange_ms = 0;        // that its host took part in
  v1::SequenceResult next_token;
};

Outcome Evict(const std::string& policy, GroupShape shape, Chooser chooser,
              const cusim::Options& order) {
  constexpr int kPromptTokens = 75;
  constexpr int kSelected = 21;
  constexpr int32_t kNextToken = 5;
  GpuGroup::Options options{.model = "qwen3", .shape = shape, .simulator = order};
  if (chooser == Chooser::kHost) {
    options.wrap = [](std::unique_ptr<kernels::Device> device) {
      return std::make_unique<kernels::HostChoiceDevice>(std::move(device));
    };
  }
  GpuGroup group(std::move(options));
  std::vector<int32_t> prompt;
  for (int i = 0; i < kPromptTokens; ++i) prompt.push_back((i * 37 + 11) % 250);
  v1::Step step;
  step.set_step_id(1);
  EngineHarness::AddStart(1, kPromptTokens, EngineHarness::GreedySampling(), step);
  *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf(policy);
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  v1::EvictionOrder& eviction = *step.add_evictions();
  eviction.set_sequence_id(1);
  eviction.set_position(kPromptTokens);
  eviction.set_report_kept_tokens(true);
  for (int layer = 0; layer < group.config().num_layers; ++layer) {
    eviction.add_layer_budgets(group.config().num_kv_heads * kSelected);
  }
  std::vector<v1::EvictionReport> reports;
  for (const v1::StepResult& result : group.Run(step)) {
    if (result.evictions_size() == 1) reports.push_back(result.evictions(0));
  }
  Outcome outcome;
  if (static_cast<int>(reports.size()) != shape.size()) return outcome;
  outcome.exchanged_bytes = reports[0].exchanged_bytes();
  outcome.exchange_ms = reports[0].exchange_ms();
  outcome.report = JoinReports(reports, shape.num_ranks);

  v1::Step next;
  next.set_step_id(2);
  EngineHarness::AddWork(1, {kNextToken}, kPromptTokens, false, true, next);
  const int sampler = (shape.num_stages - 1) * shape.num_ranks;
  const v1::StepResult result = group.Run(next)[static_cast<size_t>(sampler)];
  if (result.results_size() == 1) outcome.next_token = result.results(0);
  return outcome;
}

class CudaGroupEvictionTest : public testing::TestWithParam<cusim::Options> {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaGroupEvictionTest,
                         testing::Values(cusim::Options{.order = cusim::Order::kForward},
                                         cusim::Options{.order = cusim::Order::kReverse}),
                         kernels::cuda::OrderName);

void ExpectSameReport(const std::string& policy, GroupShape shape, const cusim::Options& order) {
  SCOPED_TRACE(testing::Message() << policy << ", " << shape.num_stages << " stages, "
                                  << shape.num_ranks << " ranks");
  const Outcome expected = Evict(policy, shape, Chooser::kHost, order);
  Outcome actual = Evict(policy, shape, Chooser::kDevice, order);
  ASSERT_EQ(expected.report.layers_size(), 3);
  EXPECT_EQ(actual.next_token.SerializeAsString(), expected.next_token.SerializeAsString());
  EXPECT_EQ(actual.exchanged_bytes, expected.exchanged_bytes);
  EXPECT_EQ(expected.exchanged_bytes > 0, shape.num_ranks > 1 && policy != "streaming");
  EXPECT_EQ(actual.exchange_ms, 0);
  EXPECT_EQ(expected.exchange_ms > 0, expected.exchanged_bytes > 0);
  ASSERT_EQ(actual.report.layers_size(), expected.report.layers_size());
  for (int layer = 0; layer < expected.report.layers_size(); ++layer) {
    v1::LayerCacheUsage& a = *actual.report.mutable_layers(layer);
    const v1::LayerCacheUsage& b = expected.report.layers(layer);
    EXPECT_NEAR(a.attention_mass(), b.attention_mass(), 1e-6) << "layer " << layer;
    a.set_attention_mass(b.attention_mass());  // of doubles in another order
  }
  EXPECT_EQ(actual.report.DebugString(), expected.report.DebugString());
}

// 4 query heads and 2 KV heads: ranks with one KV head each, with unequal shares, and with parts
// of the same.
TEST_P(CudaGroupEvictionTest, KeepsAndReportsWhatTheHostsChoiceWould) {
  for (const GroupShape shape :
       {GroupShape{1, 2}, GroupShape{1, 3}, GroupShape{1, 4}, GroupShape{3, 1}, GroupShape{2, 2}}) {
    ASSERT_NO_FATAL_FAILURE(ExpectSameReport("kvec", shape, GetParam()));
  }
}

TEST_P(CudaGroupEvictionTest, ByOtherPoliciesToo) {
  for (const std::string policy : {"kvec-paper", "snapkv", "adasnapkv", "streaming"}) {
    for (const GroupShape shape : {GroupShape{1, 3}, GroupShape{1, 4}, GroupShape{2, 2}}) {
      if (shape.num_ranks == 4 && policy != "kvec-paper") continue;
      ASSERT_NO_FATAL_FAILURE(ExpectSameReport(policy, shape, GetParam()));
    }
  }
}

}  // namespace
}  // namespace kvec::worker::engine
