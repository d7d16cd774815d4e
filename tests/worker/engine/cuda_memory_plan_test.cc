// What `kvec plan` says of a worker's memory against what a worker with the CUDA device allocates,
// on the host simulator.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/cluster/memory_plan.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cusim/cusim.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/model/golden_file.h"

namespace kvec::worker::engine {
namespace {

using coordinator::cluster::HeldKv;
using coordinator::cluster::HeldWeights;
using coordinator::cluster::MemoryPlan;
using coordinator::cluster::WorkerMemory;
using kernels::KvType;
using kernels::cuda::WeightType;

constexpr int kStepTokens = 64;
constexpr int kContextTokens = 200;

struct HeldCase {
  HeldWeights planned_weights;
  WeightType weights;
  HeldKv planned_kv = HeldKv::kF16;
  KvType kv = KvType::kF16;
};
constexpr HeldCase kBF16 = {HeldWeights::kBF16, WeightType::kBF16};
constexpr HeldCase kInt8 = {HeldWeights::kInt8, WeightType::kInt8};
constexpr HeldCase kFp8 = {HeldWeights::kFp8, WeightType::kFp8};
constexpr HeldCase kInt8Kv = {HeldWeights::kBF16, WeightType::kBF16, HeldKv::kInt8, KvType::kInt8};

MemoryPlan PlanFor(const std::string& model, const coordinator::cluster::ParallelShape& shape,
                   const HeldCase& held) {
  coordinator::cluster::PlanOptions options;
  options.memory.gpu_bytes = uint64_t{128} << 20;
  options.memory.step_tokens = kStepTokens;
  options.memory.context_tokens = kContextTokens;
  options.memory.reserve_bytes = 0;
  options.memory.weights = held.planned_weights;
  options.memory.kv_type = held.planned_kv;
  const auto outline = coordinator::cluster::ReadModelOutline(TinyModelFolder(model));
  EXPECT_TRUE(outline.ok()) << outline.status();
  auto plan = PlanMemory(*outline, shape, options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

class CudaMemoryPlanTest : public testing::TestWithParam<std::string> {
 protected:
  void CheckWorkers(const HeldCase& held);
};

void CudaMemoryPlanTest::CheckWorkers(const HeldCase& held) {
  const auto files = ModelFiles::Open(TinyModelFolder(GetParam()));
  ASSERT_TRUE(files.ok()) << files.status();
  for (const coordinator::cluster::ParallelShape shape : {coordinator::cluster::ParallelShape{},
                                                          {.num_ranks = 2},
                                                          {.num_ranks = 3, .num_stages = 2}}) {
    for (const WorkerMemory& worker : PlanFor(GetParam(), shape, held).workers) {
      cusim::Reset();
      auto device = kernels::cuda::CudaDevice::Create({.weight_type = held.weights});
      ASSERT_TRUE(device.ok()) << device.status();
      const uint64_t free_before = *(*device)->FreeBytes();
      Progress progress;
      const auto engine =
          Engine::Create(**files, **device,
                         {.layers = {static_cast<int>(worker.placement.first_layer()),
                                     static_cast<int>(worker.placement.num_layers())},
                          .rank = static_cast<int>(worker.placement.rank()),
                          .num_ranks = static_cast<int>(worker.placement.num_ranks()),
                          .max_step_tokens = kStepTokens,
                          .kv_bytes = static_cast<int64_t>(worker.kv_bytes()),
                          .kv_type = held.kv},
                         progress);
      ASSERT_TRUE(engine.ok()) << engine.status();
      EXPECT_EQ((*engine)->Capacity().weight_bytes(), worker.weight_bytes);
      EXPECT_EQ((*engine)->Capacity().total_pages(), worker.num_pages);
      EXPECT_EQ((*engine)->Capacity().page_bytes(), worker.page_bytes);
      EXPECT_EQ(static_cast<int>((*engine)->Capacity().num_kv_heads()),
                worker.share.kv_heads.count);
      EXPECT_EQ(free_before - *(*device)->FreeBytes(),
                worker.weight_bytes + worker.activation_bytes + worker.arena_bytes);
    }
  }
}

TEST_P(CudaMemoryPlanTest, TellsWhatEveryWorkerAllocates) { CheckWorkers(kBF16); }
TEST_P(CudaMemoryPlanTest, TellsWhatWorkersWithWeightsInInt8Allocate) { CheckWorkers(kInt8); }
TEST_P(CudaMemoryPlanTest, TellsWhatWorkersWithEntriesInInt8Allocate) { CheckWorkers(kInt8Kv); }

INSTANTIATE_TEST_SUITE_P(Families, CudaMemoryPlanTest, testing::ValuesIn(TinyModelNames()),
                         [](const auto& info) { return info.param; });

// The workspace is an upper bound, cuBLASLt's part of it included, which the simulator lacks.
void CheckWorkspace(const HeldCase& held, const std::string& policy) {
  const WorkerMemory worker = PlanFor("llama", {}, held).workers[0];
  cusim::Reset();
  auto created = kernels::cuda::CudaDevice::Create({.weight_type = held.weights});
  ASSERT_TRUE(created.ok()) << created.status();
  const kernels::cuda::CudaDevice& device = **created;
  const uint64_t free_before = *device.FreeBytes();
  EngineHarness harness(TinyModelFolder("llama"), *std::move(created),
                        {.kv_type = held.kv, .kv_bytes = static_cast<int64_t>(worker.kv_bytes())});
  const uint64_t free_after_start = *device.FreeBytes();
  std::vector<int32_t> prompt;
  for (int i = 0; i < kContextTokens; ++i) prompt.push_back((i * 37 + 11) % 250);
  v1::Step step = harness.NewStep();
  EngineHarness::AddStart(1, kContextTokens, EngineHarness::GreedySampling(), step);
  *step.mutable_starts(0)->mutable_cache() = EngineHarness::CachePolicyOf(policy);
  EngineHarness::AddWork(1, prompt, 0, true, true, step);
  v1::EvictionOrder& order = *step.add_evictions();
  order.set_sequence_id(1);
  order.set_position(kContextTokens);
  for (int layer = 0; layer < harness.config().num_layers; ++layer) order.add_layer_budgets(64);
  EXPECT_EQ(harness.Run(step).evictions_size(), 1);
  harness.Decode(1, kContextTokens);
  EXPECT_LT(*device.FreeBytes(), free_after_start);
  EXPECT_LE(free_after_start - *device.FreeBytes(), worker.workspace_bytes);
  EXPECT_LT(free_after_start, free_before);
}

TEST(CudaMemoryPlanWorkspaceTest, PromptsAndTheirEvictionStayWithinIt) {
  for (const HeldCase& held : {kBF16, kInt8, kFp8, kInt8Kv}) CheckWorkspace(held, "kvec");
  for (const char* const policy : {"kvec-paper", "snapkv", "adasnapkv", "streaming"}) {
    SCOPED_TRACE(policy);
    CheckWorkspace(kBF16, policy);
  }
}

}  // namespace
}  // namespace kvec::worker::engine
