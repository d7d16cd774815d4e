#include "coordinator/cluster/memory_plan.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>

#include "coordinator/cluster/gpu_cards.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::HasSubstr;

ModelOutline Llama(int num_layers, int hidden, int intermediate, int num_heads) {
  ModelOutline outline;
  ModelConfig& config = outline.config;
  config.name = "Llama";
  config.num_layers = num_layers;
  config.hidden_size = hidden;
  config.intermediate_size = intermediate;
  config.num_heads = num_heads;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 128256;
  config.context_length = 131072;
  config.sliding_windows.assign(num_layers, 0);
  return outline;
}

ModelOutline Llama8B() { return Llama(32, 4096, 14336, 32); }
ModelOutline Llama70B() { return Llama(80, 8192, 28672, 64); }

PlanOptions On(uint64_t gpu_bytes, uint32_t context_tokens) {
  PlanOptions options;
  options.memory.gpu_bytes = gpu_bytes;
  options.memory.context_tokens = context_tokens;
  options.answer_tokens = 512;
  return options;
}

MemoryPlan Plan(const ModelOutline& outline, const ParallelShape& shape,
                const PlanOptions& options) {
  auto plan = PlanMemory(outline, shape, options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

TEST(MemoryPlanTest, CountsAnEightBillionModelOnOneCardAsByHand) {
  PlanOptions options = On(*GpuMemoryBytes("a100-80"), 32768);
  options.budget_tokens = 1024;
  const MemoryPlan plan = Plan(Llama8B(), {}, options);
  ASSERT_EQ(plan.workers.size(), 1u);
  const WorkerMemory& worker = plan.workers[0];
  // A layer: q and o of 4096², k and v of 1024 · 4096, three MLP matrices of 14336 · 4096, all of 2
  // bytes; two norms of 4096 floats. The head: 128256 · 4096, and a norm. No embedding.
  constexpr uint64_t kLayer = 2 * (2 * 16'777'216 + 2 * 4'194'304 + 3 * 58'720'256) + 32'768;
  EXPECT_EQ(worker.weight_bytes, 32 * kLayer + 2 * 128'256ull * 4096 + 16'384);
  EXPECT_EQ(worker.weight_bytes, 15'010'381'824u);
  // 512 rows of hidden states, 48 heads, gate and up, two kinds of angles, and in 2 bytes of the
  // normed ones, attention, activated; 64 rows of logits.
  EXPECT_EQ(worker.activation_bytes, 4 * (512 * (4096 + 48 * 128 + 2 * 14'336 + 2 * 128)) +
                                         2 * 512 * (4096 + 4096 + 14'336) + 4 * 64ull * 128'256);
  EXPECT_EQ(worker.page_bytes, 2 * 16 * 128 * 2u);
  EXPECT_LE(worker.bytes_beside_arena() + worker.arena_bytes, options.memory.gpu_bytes);
  EXPECT_GT(worker.bytes_beside_arena() + worker.arena_bytes + 8272, options.memory.gpu_bytes);
  // Of each token kvec-paper has 2 (2 · 32 + 8 + 1) floats for two layers' means, scores and focus,
  // 16 · 8 maxima, 2 · 8 + 16 rows to join, 4 of other kinds and 2 · 32 · 32 / 16 of the softmax:
  // 438. 32768 tokens are 2048 pages of each of 256 heads, 4 GiB; 1024 + 512 entries are 96.
  EXPECT_EQ(plan.request_pages, 2048 * 256u);
  EXPECT_EQ(plan.evicted_request_pages, 96 * 256u);
  EXPECT_EQ(worker.num_pages, 8'323'846u);
  EXPECT_EQ(plan.num_full, 15u);
  EXPECT_EQ(plan.num_evicted, 318u);
}

TEST(MemoryPlanTest, DividesASeventyBillionModelAsTheCoordinatorPlacesIt) {
  const ModelOutline outline = Llama70B();
  const ParallelShape shape{.num_ranks = 4, .num_stages = 2};
  const MemoryPlan plan = Plan(outline, shape, On(*GpuMemoryBytes("H100-80"), 131072));
  const auto placements = PlaceWorkers(shape, OutlineBytes(outline, TensorType::kBF16));
  ASSERT_EQ(plan.workers.size(), 8u);
  uint64_t weight_bytes = 0;
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(plan.workers[i].placement.SerializeAsString(), placements[i].SerializeAsString());
    EXPECT_EQ(plan.workers[i].share.heads.count, 16);
    EXPECT_EQ(plan.workers[i].share.kv_heads.count, 2);
    weight_bytes += plan.workers[i].weight_bytes;
  }
  // 68.5 thousand million numbers of 2 bytes; each of the 4 ranks has all norms, 160 and the last.
  constexpr uint64_t kLayer = 2 * 67'108'864 + 2 * 8'388'608 + 3 * 234'881'024;
  EXPECT_EQ(weight_bytes, 2 * (80 * kLayer + 128'256ull * 8192) + 4 * 161 * 8192 * 4ull);
  EXPECT_TRUE(plan.fits());
  // 8192 pages of 2 KV heads of at most 41 layers.
  EXPECT_EQ(plan.request_pages, 8192 * 2 * uint64_t{plan.tightest().placement.num_layers()});
}

TEST(MemoryPlanTest, HeadsThatDoNotDivideAreHeldTwice) {
  ModelOutline outline = Llama(2, 576, 1536, 9);
  outline.config.num_kv_heads = 3;
  outline.config.head_dim = 64;
  const MemoryPlan plan = Plan(outline, {.num_ranks = 2}, On(uint64_t{8} << 30, 2048));
  EXPECT_EQ(plan.workers[0].share.heads.count, 5);
  EXPECT_EQ(plan.workers[1].share.heads.count, 4);
  EXPECT_EQ(plan.workers[0].share.kv_heads.count, 2);
  EXPECT_EQ(plan.workers[1].share.kv_heads.count, 2);
}

TEST(MemoryPlanTest, LayersWithAWindowHoldItOnlyAndAreNotEvicted) {
  ModelOutline outline = Llama8B();
  for (int layer = 0; layer < 32; ++layer) {
    outline.config.sliding_windows[layer] = layer % 4 == 3 ? 0 : 1024;
  }
  PlanOptions options = On(uint64_t{80} << 30, 32768);
  options.budget_tokens = 512;
  const MemoryPlan plan = Plan(outline, {}, options);
  // While a prompt of chunks of 512 is read a window holds up to (1023 + 512 + 30) / 16 = 97 pages,
  // afterwards 2048 - floor((32768 - 1024 + 1) / 16) = 64.
  EXPECT_EQ(plan.request_pages, 8 * (8 * 2048u + 24 * 97u));
  EXPECT_EQ(plan.evicted_request_pages, 8 * (8 * 64u + 24 * 64u));
}

TEST(MemoryPlanTest, QuantisedWeightsHaveTheirBlocksBytes) {
  PlanOptions options = On(uint64_t{80} << 30, 4096);
  const uint64_t bf16 = Plan(Llama8B(), {}, options).workers[0].weight_bytes;
  constexpr uint64_t kNormBytes = 65 * 4096 * 4;
  options.memory.weights = HeldWeights::kQ4;  // 18 bytes of 32 numbers
  EXPECT_EQ(Plan(Llama8B(), {}, options).workers[0].weight_bytes - kNormBytes,
            (bf16 - kNormBytes) / 64 * 18);
}

TEST(MemoryPlanTest, EntriesInInt8HaveTwoScales) {
  PlanOptions options = On(uint64_t{80} << 30, 4096);
  for (const auto& [type, entry_bytes] : {std::pair{HeldKv::kF16, 2 * 2 * 128u},
                                          {HeldKv::kBF16, 2 * 2 * 128u},
                                          {HeldKv::kF32, 2 * 4 * 128u},
                                          {HeldKv::kInt8, 2 * (128u + 2)}}) {
    options.memory.kv_type = type;
    const WorkerMemory worker = Plan(Llama8B(), {}, options).workers[0];
    EXPECT_EQ(worker.page_bytes, 16 * entry_bytes);
    EXPECT_EQ(worker.num_pages,
              (options.memory.gpu_bytes - worker.bytes_beside_arena()) / (16 * (entry_bytes + 4)));
  }
}

TEST(MemoryPlanTest, WeightsOfEightBitsHaveAScalePerRow) {
  PlanOptions options = On(uint64_t{80} << 30, 4096);
  const WorkerMemory bf16 = Plan(Llama8B(), {}, options).workers[0];
  constexpr uint64_t kNormBytes = 65 * 4096 * 4;
  // A layer's rows are of q, k, v, o, gate, up and down.
  constexpr uint64_t kRows = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096) + 128256;
  for (const HeldWeights weights : {HeldWeights::kInt8, HeldWeights::kFp8}) {
    options.memory.weights = weights;
    const WorkerMemory worker = Plan(Llama8B(), {}, options).workers[0];
    EXPECT_EQ(worker.weight_bytes - kNormBytes, (bf16.weight_bytes - kNormBytes) / 2 + 4 * kRows);
    // The sums of 512 rows of gate and up, beside the rows and their scales; bf16 has attention's.
    // And there are more pages in the tables.
    EXPECT_EQ(worker.workspace_bytes - bf16.workspace_bytes,
              512 * (4096 + 4 + 4 * 2 * 14336) - 512 * 4 * 4096u +
                  16 * (worker.num_pages - bf16.num_pages));
  }
}

TEST(MemoryPlanTest, FeaturesOfEightBitsAreRoundedUp) {
  ModelOutline outline = Llama(1, 40, 50, 2);
  outline.config.num_kv_heads = 1;
  outline.config.head_dim = 10;
  outline.config.vocab_size = 33;
  PlanOptions options = On(uint64_t{1} << 30, 4096);
  options.memory.weights = HeldWeights::kInt8;
  // q, k and v of 40 rows of 40 numbers, o of 40 of 20, gate and up of 100 of 40, down of 40 of 50,
  // and the head of 33 of 40: each to the next multiples of 16, and a scale per row.
  EXPECT_EQ(Plan(outline, {}, options).workers[0].weight_bytes,
            48 * 48 + 48 * 32 + 112 * 48 + 48 * 64 + 48 * 48 + 4 * (40 + 40 + 100 + 40 + 33) +
                3 * 40 * 4u);
}

TEST(MemoryPlanTest, ABudgetThatKeepsThePromptChangesNothing) {
  PlanOptions options = On(uint64_t{80} << 30, 4096);
  const MemoryPlan full = Plan(Llama8B(), {}, options);
  options.budget_tokens = 4096 - 512;
  const MemoryPlan kept = Plan(Llama8B(), {}, options);
  EXPECT_EQ(kept.evicted_request_pages, full.request_pages);
  EXPECT_EQ(kept.num_evicted, full.num_full);
}

TEST(MemoryPlanTest, TheSmallestGroupIsTheFirstThatFits) {
  // 141 GB of weights: two H100s of 85 GB hold them, but not a request beside them.
  const PlanOptions options = On(*GpuMemoryBytes("H100-80"), 131072);
  const auto smallest = SmallestPlan(Llama70B(), 8, options);
  ASSERT_TRUE(smallest.ok()) << smallest.status();
  EXPECT_TRUE(smallest->fits());
  for (int ranks = 1; ranks <= 8; ranks *= 2) {
    for (int stages = 1; ranks * stages < smallest->shape.num_workers(); ++stages) {
      EXPECT_FALSE(Plan(Llama70B(), {.num_ranks = ranks, .num_stages = stages}, options).fits());
    }
  }
  EXPECT_EQ(SmallestPlan(Llama70B(), 8, On(uint64_t{1} << 30, 131072)).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(MemoryPlanTest, RefusesWhatIsNoPlan) {
  PlanOptions options = On(uint64_t{80} << 30, 512);
  EXPECT_THAT(std::string(PlanMemory(Llama8B(), {}, options).status().message()),
              HasSubstr("context: 512 tokens, 512 of them the answer"));
  options.memory.context_tokens = 4096;
  EXPECT_EQ(PlanMemory(Llama8B(), {.num_ranks = 33}, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(GpuMemoryBytes("H900").status().message()), HasSubstr("H100-80"));
}

}  // namespace
}  // namespace kvec::coordinator::cluster
