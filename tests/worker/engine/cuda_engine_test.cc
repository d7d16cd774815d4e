// The engine with the CUDA device, on the host simulator: against PyPI transformers on tiny random
// models of every family, and against the CPU device where eviction comes in.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cusim/cusim.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

// Weights and their inputs are rounded to bfloat16, 8 bits of each.
constexpr double kTolerance = 0.05;
constexpr double kTie = 0.1;

std::unique_ptr<kernels::Device> MakeDevice(const cusim::Options& options) {
  cusim::Reset(options);
  auto device = kernels::cuda::CudaDevice::Create({});
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

std::vector<int32_t> PromptOf(int length) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back((i * 37 + 11) % 250);
  return prompt;
}

class CudaEngineTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto golden = ReadTinyModelGolden(GetParam());
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
  }

  Golden golden_;
};

TEST_P(CudaEngineTest, ContinuesGreedilyAsTransformersDoesInEveryOrder) {
  const Golden::Generation& generation = golden_.generate[0];
  for (cusim::Order order : {cusim::Order::kForward, cusim::Order::kReverse}) {
    EngineHarness harness(TinyModelFolder(GetParam()), MakeDevice({.order = order}), {});
    v1::SequenceResult result =
        harness.Prefill(1, generation.prompt_ids, 16, EngineHarness::GreedySampling());
    int position = static_cast<int>(generation.prompt_ids.size());
    for (size_t i = 0; i < generation.generated_ids.size(); ++i) {
      const auto& top = generation.top_logprobs[i];
      EXPECT_NEAR(result.logprobs().top(0).log_prob(), top[0].log_prob, kTolerance)
          << "token " << i;
      if (static_cast<int32_t>(result.token_id()) != generation.generated_ids[i]) {
        EXPECT_LT(top[0].log_prob - top[1].log_prob, kTie) << "token " << i;
        break;  // another branch of a tie
      }
      if (i + 1 < generation.generated_ids.size()) result = harness.Decode(1, position++);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaEngineTest, testing::ValuesIn(TinyModelNames()),
                         [](const auto& info) { return info.param; });

// How often it came to what holds the host up.
struct HostWaits {
  int64_t synchronizes = cusim::NumCalls("cudaStreamSynchronize");
  int64_t waits = cusim::NumWaits();
  int64_t allocations = cusim::NumCalls("cudaMalloc") + cusim::NumCalls("cudaMallocHost");
};

TEST(CudaEngineSynchronizationTest, TheHostWaitsOnceInADecodeStep) {
  EngineHarness harness(TinyModelFolder("gemma3"), MakeDevice({}), {});
  constexpr int kPrompts[] = {40, 7, 90};
  std::vector<int> positions;
  for (int id = 0; id < 3; ++id) {
    harness.Prefill(id, PromptOf(kPrompts[id]), 64, EngineHarness::GreedySampling());
    positions.push_back(kPrompts[id]);
  }
  for (int step = 0; step < 20; ++step) {
    v1::Step decode = harness.NewStep();
    for (int id = 0; id < 3; ++id) {
      EngineHarness::AddWork(id, {}, positions[id]++, false, true, decode);
    }
    const HostWaits before;
    const v1::StepResult result = harness.Run(decode);
    const HostWaits after;
    EXPECT_EQ(result.results_size(), 3);
    EXPECT_EQ(result.results(2).logprobs().top_size(), 5);
    if (step == 0) continue;  // makes room
    EXPECT_EQ(after.synchronizes - before.synchronizes, 1);
    EXPECT_EQ(after.waits - before.waits, 1);
    EXPECT_EQ(after.allocations, before.allocations);
  }
}

// What a decode Step gives the GPU to do. docs/gpu_roofline.md reckons with these numbers.
constexpr int kKernelsOfLayer = 10;
constexpr int kKernelsAround = 4;  // angles; the head's norm and product; sampling
constexpr int kGraphsOfStep = 3;   // layers; head; sampling
constexpr int kCopiesOfStep = 4;   // embedding, tables and sampling's tasks to it; tokens back

struct DeviceWork {
  int64_t kernels = cusim::NumKernelsRun();
  int64_t launches = cusim::NumCalls("LaunchKernel");  // of single kernels
  int64_t graphs = cusim::NumCalls("cudaGraphLaunch");
  int64_t copies = cusim::NumCalls("cudaMemcpyAsync") + cusim::NumCalls("cudaMemcpy2DAsync");
};

// Of one sequence, as of several, with what the host tells the GPU as uploads alone: but for new
// pages, which a kernel writes into their tables.
TEST(CudaEngineLaunchesTest, ADecodeStepIsGraphsAndUploads) {
  for (const int num_sequences : {1, 3}) {
    EngineHarness harness(TinyModelFolder("llama"), MakeDevice({}), {});
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_frequency_penalty(0.3f);  // lists are among what is uploaded
    constexpr int kPromptTokens = 30;
    for (int id = 0; id < num_sequences; ++id) {
      harness.Prefill(static_cast<uint64_t>(id), PromptOf(kPromptTokens), 64, sampling);
    }
    for (int step = 0; step < 20; ++step) {
      v1::Step decode = harness.NewStep();
      for (int id = 0; id < num_sequences; ++id) {
        EngineHarness::AddWork(static_cast<uint64_t>(id), {}, kPromptTokens + step, false, true,
                               decode);
      }
      const DeviceWork before;
      EXPECT_EQ(harness.Run(decode).results_size(), num_sequences);
      const DeviceWork after;
      if (step < 2) continue;  // queued as it comes, and captured
      const bool has_new_pages = (kPromptTokens + step) % kernels::kPageTokens == 0;
      const int num_tables = has_new_pages ? 1 : 0;
      EXPECT_EQ(after.graphs - before.graphs, kGraphsOfStep);
      EXPECT_EQ(after.launches - before.launches, num_tables) << "step " << step;
      EXPECT_EQ(after.copies - before.copies, kCopiesOfStep + 2 * num_tables);
      EXPECT_EQ(after.kernels - before.kernels,
                harness.config().num_layers * kKernelsOfLayer + kKernelsAround + num_tables);
    }
  }
}

// The same Steps with and without graphs, on devices of one simulator.
class CudaEngineGraphsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    cusim::Reset();
    for (bool use_graphs : {true, false}) {
      auto device = kernels::cuda::CudaDevice::Create({.use_graphs = use_graphs});
      ASSERT_TRUE(device.ok()) << device.status();
      if (use_graphs) device_ = device->get();
      harnesses_.push_back(std::make_unique<EngineHarness>(
          TinyModelFolder(GetParam()), *std::move(device), EngineHarness::Options()));
    }
  }

  void Start(int id, int prompt_tokens) {
    v1::StepSampling sampling = EngineHarness::GreedySampling();
    sampling.set_temperature(0.9);
    sampling.set_seed(static_cast<uint64_t>(id));
    if (id == 0 || id == 1000) sampling.set_frequency_penalty(0.5f);
    for (auto& harness : harnesses_) {
      harness->Prefill(static_cast<uint64_t>(id), PromptOf(prompt_tokens), 64, sampling);
    }
    positions_[id] = prompt_tokens;
  }

  void Free(int id) {
    for (auto& harness : harnesses_) harness->Free(static_cast<uint64_t>(id));
    positions_.erase(id);
  }

  // A token of each of the first `count` sequences.
  void Decode(int count) {
    std::vector<std::string> results;
    for (auto& harness : harnesses_) {
      v1::Step step = harness->NewStep();
      int num_added = 0;
      for (const auto& [id, position] : positions_) {
        if (num_added++ == count) break;
        EngineHarness::AddWork(static_cast<uint64_t>(id), {}, position, false, true, step);
      }
      results.emplace_back();
      const v1::StepResult step_result = harness->Run(step);
      for (const v1::SequenceResult& result : step_result.results()) {
        results.back() += result.ShortDebugString() + "\n";
      }
    }
    ASSERT_EQ(results[0], results[1]);
    for (auto& [id, position] : positions_) {
      if (count-- > 0) ++position;
    }
  }

  kernels::cuda::CudaDevice* device_ = nullptr;  // with graphs
  std::vector<std::unique_ptr<EngineHarness>> harnesses_;
  std::map<int, int> positions_;  // by sequence
};

TEST_P(CudaEngineGraphsTest, AnswersDoNotDependOnThem) {
  constexpr int kPrompts[] = {250, 3, 15, 16, 40, 17, 64, 33, 9};
  for (int id = 0; id < 9; ++id) Start(id, kPrompts[id]);
  for (int count = 9; count >= 1; --count) {
    for (int step = 0; step < 3; ++step) Decode(count);
  }
  for (int id : {0, 4, 8}) Free(id);
  for (int id : {20, 1000}) Start(id, 20);
  for (int step = 0; step < 5; ++step) Decode(8);
  const kernels::cuda::GraphCounts counts = device_->graph_counts();
  // Sampling behind 11 prompts; layers, head and sampling of each of 32 Steps: of 1, 2, 4, 8 and 16
  // rows, and where the long sequence has more than 256 entries.
  EXPECT_EQ(counts.runs + counts.captures + counts.replays, kGraphsOfStep * 32 + 11);
  EXPECT_EQ(counts.failed_captures, 0);
  EXPECT_GE(counts.replays, 30);
  harnesses_.clear();
  EXPECT_EQ(cusim::NumGraphs(), 0);
}

// While its cache is to be evicted from a sequence's queries are kept, by graphs of their own.
TEST_P(CudaEngineGraphsTest, KeepTheQueriesThatAnEvictionScoresBy) {
  constexpr int kPromptTokens = 50;
  constexpr int kDecoded = 20;
  Start(1, 30);
  for (auto& harness : harnesses_) {
    v1::Step step = harness->NewStep();
    EngineHarness::AddStart(2, kPromptTokens, EngineHarness::GreedySampling(), step);
    *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf("kvec");
    step.mutable_starts(0)->mutable_cache()->set_decode_interval_tokens(16);
    EngineHarness::AddWork(2, PromptOf(kPromptTokens), 0, true, true, step);
    harness->Run(step);
  }
  positions_[2] = kPromptTokens;
  for (int step = 0; step < kDecoded; ++step) Decode(2);
  std::vector<v1::EvictionReport> reports;
  for (auto& harness : harnesses_) {
    v1::Step step = harness->NewStep();
    v1::EvictionOrder& order = *step.add_evictions();
    order.set_sequence_id(2);
    order.set_position(kPromptTokens + kDecoded);
    for (int layer = 0; layer < harness->config().num_layers; ++layer) order.add_layer_budgets(24);
    reports.push_back(harness->Run(step).evictions(0));
  }
  EXPECT_GT(reports[0].kept_entries(), 0);
  EXPECT_EQ(reports[0].kept_token_bits(), reports[1].kept_token_bits());
  for (int layer = 0; layer < reports[0].layers_size(); ++layer) {
    EXPECT_EQ(reports[0].layers(layer).attention_mass(), reports[1].layers(layer).attention_mass());
  }
  for (int step = 0; step < 3; ++step) Decode(2);
  EXPECT_GE(device_->graph_counts().replays, 30);
}

INSTANTIATE_TEST_SUITE_P(Families, CudaEngineGraphsTest, testing::Values("llama", "gemma3"),
                         [](const auto& info) { return info.param; });

// Prompt, eviction, and the token after it.
struct Eviction {
  v1::EvictionReport report;
  double log_prob = 0;
};

Eviction Evict(EngineHarness& harness, const std::string& policy_name) {
  constexpr int kPromptTokens = 60;
  constexpr int kSelected = 12;
  constexpr int32_t kNextToken = 5;
  const std::vector<int32_t> prompt = PromptOf(kPromptTokens);
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, kPromptTokens, EngineHarness::GreedySampling(), step);
  v1::CachePolicy& policy = *step.mutable_starts(0)->mutable_cache();
  policy.set_policy(policy_name);
  policy.set_observation_window(16);
  policy.set_wide_window(32);
  policy.set_lambda(1);
  policy.set_beta(0.25);
  policy.set_head_allocation("adaptive");
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  v1::EvictionOrder& order = *step.add_evictions();
  order.set_sequence_id(1);
  order.set_position(kPromptTokens);
  for (int layer = 0; layer < harness.config().num_layers; ++layer) {
    order.add_layer_budgets(harness.config().num_kv_heads * kSelected);
  }
  const v1::StepResult result = harness.Run(step);
  v1::Step next = harness.NewStep();
  EngineHarness::AddWork(1, {kNextToken}, kPromptTokens, false, true, next);
  return {result.evictions(0), harness.Run(next).results(0).logprobs().top(0).log_prob()};
}

// Where scores nearly tie, bfloat16 weights may choose otherwise: these pairs have no such ties.
TEST(CudaEngineEvictionTest, KeepsWhatTheCpuKeeps) {
  for (const auto& [model, policy] :
       {std::pair{"llama", "snapkv"}, std::pair{"qwen3", "kvec"}, std::pair{"gemma3", "kvec"}}) {
    EngineHarness cpu(TinyModelFolder(model), {});
    EngineHarness cuda(TinyModelFolder(model), MakeDevice({}), {});
    const Eviction expected = Evict(cpu, policy);
    const Eviction actual = Evict(cuda, policy);
    EXPECT_EQ(actual.report.kept_entries(), expected.report.kept_entries());
    EXPECT_EQ(actual.report.kept_token_bits(), expected.report.kept_token_bits());
    ASSERT_EQ(actual.report.layers_size(), expected.report.layers_size());
    for (int layer = 0; layer < expected.report.layers_size(); ++layer) {
      EXPECT_NEAR(actual.report.layers(layer).attention_mass(),
                  expected.report.layers(layer).attention_mass(), 0.01);
    }
    EXPECT_NEAR(actual.log_prob, expected.log_prob, kTolerance) << model << " " << policy;
  }
}

}  // namespace
}  // namespace kvec::worker::engine
