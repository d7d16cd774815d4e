// Evictions whose choice the CUDA device makes, on the host simulator, against the same device with
// the host's choice.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cusim/cusim.h"
#include "tests/kernels/cuda/kernel_test.h"
#include "tests/kernels/host_choice_device.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

enum class Chooser { kDevice, kHost };

std::unique_ptr<kernels::Device> MakeDevice(Chooser chooser, const cusim::Options& order) {
  cusim::Reset(order);
  auto device = kernels::cuda::CudaDevice::Create({});
  EXPECT_TRUE(device.ok()) << device.status();
  if (chooser == Chooser::kDevice) return *std::move(device);
  return std::make_unique<kernels::HostChoiceDevice>(*std::move(device));
}

struct EvictionCase {
  std::string policy;
  std::string model;
  int prompt_tokens;
  int selected;  // per KV head, beside the observation window
  bool adaptive_heads = true;
};

struct Outcome {
  v1::EvictionReport report;
  int64_t num_waits = 0;          // during the eviction
  v1::SequenceResult next_token;  // after it
  int num_layers = 0;             // that evicted
};

// The eviction has a Step of its own.
Outcome Evict(const EvictionCase& eviction, Chooser chooser, const cusim::Options& order) {
  EngineHarness harness(TinyModelFolder(eviction.model), MakeDevice(chooser, order), {});
  harness.engine().set_sentence_end_bits(std::string(64, '\x11'));
  std::vector<int32_t> prompt;
  for (int i = 0; i < eviction.prompt_tokens; ++i) prompt.push_back((i * 37 + 11) % 250);
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, eviction.prompt_tokens, EngineHarness::GreedySampling(), step);
  v1::CachePolicy& policy = *step.mutable_starts(0)->mutable_cache();
  policy = EngineHarness::CachePolicyOf(eviction.policy);
  policy.set_head_allocation(eviction.adaptive_heads ? "adaptive" : "uniform");
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  harness.Run(step);

  v1::Step evicting = harness.NewStep();
  v1::EvictionOrder& eviction_order = *evicting.add_evictions();
  eviction_order.set_sequence_id(1);
  eviction_order.set_position(eviction.prompt_tokens);
  eviction_order.set_report_kept_tokens(true);
  for (int layer = 0; layer < harness.config().num_layers; ++layer) {
    eviction_order.add_layer_budgets(harness.config().num_kv_heads * eviction.selected + layer);
  }
  const int64_t waits_before = cusim::NumWaits();
  Outcome outcome;
  outcome.report = harness.Run(evicting).evictions(0);
  outcome.num_waits = cusim::NumWaits() - waits_before;
  outcome.num_layers = outcome.report.layers_size();
  outcome.next_token = harness.Decode(1, eviction.prompt_tokens);
  return outcome;
}

class CudaEvictionTest : public testing::TestWithParam<cusim::Options> {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaEvictionTest, kernels::cuda::kAllOrders,
                         kernels::cuda::OrderName);

TEST_P(CudaEvictionTest, KeepsAndReportsWhatTheHostsChoiceWould) {
  for (const EvictionCase& eviction : std::initializer_list<EvictionCase>{
           {"kvec", "qwen3", 90, 20},
           {"kvec", "llama", 193, 60},
           {"kvec", "gemma3", 77, 13, false},
           {"kvec-paper", "qwen3", 90, 20},
           {"kvec-paper", "llama", 193, 60},
           {"kvec-paper", "gemma3", 29, 5},  // less than its wide window
           {"snapkv", "qwen3", 90, 20},
           {"snapkv", "gemma3", 77, 13},
           {"pyramidkv", "llama", 61, 7},
           {"adasnapkv", "llama", 193, 60},
           {"streaming", "qwen3", 90, 20}}) {
    SCOPED_TRACE(eviction.policy + ", " + eviction.model);
    Outcome expected = Evict(eviction, Chooser::kHost, GetParam());
    Outcome actual = Evict(eviction, Chooser::kDevice, GetParam());
    EXPECT_EQ(actual.next_token.SerializeAsString(), expected.next_token.SerializeAsString());
    ASSERT_EQ(actual.num_layers, expected.num_layers);
    for (int layer = 0; layer < expected.num_layers; ++layer) {
      v1::LayerCacheUsage& a = *actual.report.mutable_layers(layer);
      const v1::LayerCacheUsage& b = expected.report.layers(layer);
      EXPECT_GT(b.attention_mass(), 0);
      EXPECT_NEAR(a.attention_mass(), b.attention_mass(), 1e-6) << "layer " << layer;
      a.set_attention_mass(b.attention_mass());  // of doubles in another order
    }
    actual.report.set_eviction_ms(expected.report.eviction_ms());
    EXPECT_EQ(actual.report.DebugString(), expected.report.DebugString());
  }
}

TEST_P(CudaEvictionTest, WaitsForTheDeviceOnce) {
  constexpr int kWaitsOfAStep = 1;  // at its end: here for the entries on their way
  for (const std::string policy : {"kvec", "kvec-paper", "snapkv", "adasnapkv", "streaming"}) {
    SCOPED_TRACE(policy);
    const EvictionCase eviction{policy, "qwen3", 90, 20};
    EXPECT_EQ(Evict(eviction, Chooser::kDevice, GetParam()).num_waits, 1 + kWaitsOfAStep);
    const Outcome by_host = Evict(eviction, Chooser::kHost, GetParam());
    EXPECT_GE(by_host.num_waits, by_host.num_layers);
  }
}

}  // namespace
}  // namespace kvec::worker::engine
