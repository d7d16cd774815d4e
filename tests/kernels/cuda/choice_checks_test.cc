// What the device's chooser refuses.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/entry_chooser.h"
#include "tests/kernels/cuda/chooser_test.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class CudaChoiceChecksTest : public ChooserTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaChoiceChecksTest, ::testing::Values(cusim::Options{}),
                         OrderName);

// A plan that is right, for a test to spoil.
struct GoodPlan {
  static constexpr int kCandidates = 40;
  std::vector<int32_t> span_begins = std::vector<int32_t>(kCandidates, 0);
  std::vector<uint16_t> layers_selecting = std::vector<uint16_t>(kCandidates, 0);
  std::vector<int> budgets = {8};
  std::vector<RankHeadRange> ranks = {{0, 2, 0, 2}};
  ChoicePlan plan;

  GoodPlan(const GoodPlan&) = delete;
  GoodPlan() {
    plan.rules.score = SpanRules{.span_begins = span_begins, .decay = 0.9f};
    plan.rules.choice = CoverageRules{};
    plan.shape = kShape;
    plan.ranks = ranks;
    plan.num_candidates = kCandidates;
    plan.layers_selecting = layers_selecting;
    plan.layer_budgets = budgets;
  }

  static constexpr HeadShape kShape = {
      .num_heads = 2, .num_kv_heads = 2, .head_dim = 8, .group_size = 1};

  SpanRules& spans() { return std::get<SpanRules>(plan.rules.score); }
  CoverageRules& coverage() { return std::get<CoverageRules>(plan.rules.choice); }
};

struct SpoiledPlan {
  const char* says;
  void (*spoil)(GoodPlan&);
};

constexpr SpoiledPlan kSpoiledSizes[] = {
    {"0 candidates", [](GoodPlan& good) { good.plan.num_candidates = 0; }},
    {"41 candidates", [](GoodPlan& good) { good.plan.num_candidates = 41; }},
    {"39 layers_selecting",
     [](GoodPlan& good) { good.plan.layers_selecting = good.plan.layers_selecting.first(39); }},
    {"budget -1", [](GoodPlan& good) { good.budgets[0] = -1; }},
    {"rank 1 of 1", [](GoodPlan& good) { good.plan.rank = 1; }},
    {"rank -1", [](GoodPlan& good) { good.plan.rank = -1; }},
    {"rank 0 has 2 query heads from 0 on, in groups of 1, and 3 KV heads",
     [](GoodPlan& good) { good.ranks[0].num_kv_heads = 3; }},
    {"rank 0 has 0 query heads", [](GoodPlan& good) { good.ranks[0] = {}; }},
    {"with 3 heads and 3 KV heads, not 2 and 2",
     [](GoodPlan& good) {
       good.ranks[0] = {0, 3, 0, 3};
     }},
    {"of 257, which may be 256",
     [](GoodPlan& good) {
       good.ranks[0] = {0, 257, 0, 257};
       good.plan.shape.num_heads = good.plan.shape.num_kv_heads = 257;
     }},
};

constexpr SpoiledPlan kSpoiledRules[] = {
    {"39 span_begins",
     [](GoodPlan& good) { good.spans().span_begins = good.spans().span_begins.first(39); }},
    {"span of token 7 begins at 8", [](GoodPlan& good) { good.span_begins[7] = 8; }},
    {"span of token 0 begins at -1", [](GoodPlan& good) { good.span_begins[0] = -1; }},
    {"decay 0.95", [](GoodPlan& good) { good.spans().decay = 0.95f; }},
    {"tie_break 1", [](GoodPlan& good) { good.spans().tie_break = 1; }},
    {"choice: 2 windows", [](GoodPlan& good) { good.plan.num_windows = 2; }},
    {"pooling radius 17", [](GoodPlan& good) { good.plan.rules.score = PoolRules{.radius = 17}; }},
    {"num_widened 1 of 1 windows",
     [](GoodPlan& good) { good.plan.rules.score = PoolRules{.num_widened = 1}; }},
    {"num_sinks -1", [](GoodPlan& good) { good.plan.rules.score = RecencyRules{-1}; }},
    {"taken_factor 0.001", [](GoodPlan& good) { good.coverage().taken_factor = 0.001; }},
    {"reserved_share 2", [](GoodPlan& good) { good.coverage().reserved_share = 2; }},
    {"sure_share -1", [](GoodPlan& good) { good.plan.rules.sure_share = -1; }},
    {"focus_window 1, which", [](GoodPlan& good) { good.plan.focus_window = 1; }},
    {"choice: focus_window 0", [](GoodPlan& good) { good.plan.rules.choice = FocusRules{}; }},
    {"lambda -1",
     [](GoodPlan& good) {
       good.plan.focus_window = 1;
       good.plan.rules.choice = FocusRules{.lambda = -1};
     }},
    {"of a budget that heads share",
     [](GoodPlan& good) {
       good.plan.focus_window = 1;
       good.plan.rules.choice = FocusRules{};
       good.plan.rules.sure_share = 0.5;
     }},
};

TEST_P(CudaChoiceChecksTest, RejectsWhatItDoesNotTake) {
  for (const absl::Span<const SpoiledPlan> spoiled :
       {absl::MakeConstSpan(kSpoiledSizes), absl::MakeConstSpan(kSpoiledRules)}) {
    for (const SpoiledPlan& rejected : spoiled) {
      GoodPlan good;
      EXPECT_TRUE(device_->chooser()->Begin(good.plan).ok());
      rejected.spoil(good);
      const absl::Status status = device_->chooser()->Begin(good.plan);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rejected.says;
      EXPECT_THAT(std::string(status.message()), HasSubstr(rejected.says));
    }
  }
}

TEST_P(CudaChoiceChecksTest, RejectsSpansLongerThanItsTiles) {
  constexpr int kTokens = kMaxSpanTokens + 1;
  GoodPlan good;
  good.span_begins.assign(kTokens, 0);
  good.layers_selecting.assign(kTokens, 0);
  good.spans().span_begins = good.span_begins;
  good.plan.num_candidates = kTokens - 1;
  good.plan.layers_selecting = absl::MakeConstSpan(good.layers_selecting).first(kTokens - 1);
  EXPECT_TRUE(device_->chooser()->Begin(good.plan).ok());
  good.plan.num_candidates = kTokens;
  good.plan.layers_selecting = good.layers_selecting;
  EXPECT_THAT(std::string(device_->chooser()->Begin(good.plan).message()),
              HasSubstr("span of token 256 begins at 0"));
}

TEST_P(CudaChoiceChecksTest, RejectsLayersThatArePlannedOtherwise) {
  const GoodPlan good;
  constexpr HeadShape kShape = GoodPlan::kShape;
  ASSERT_TRUE(device_->chooser()->Begin(good.plan).ok());
  EXPECT_THAT(std::string(device_->chooser()->Finish().status().message()),
              HasSubstr("from 0 layers of 1"));
  EXPECT_THAT(std::string(ScoreLayer(kShape, GoodPlan::kCandidates - 1).status().message()),
              HasSubstr("rows of 39 candidates, not 40"));
  EXPECT_THAT(std::string(ScoreLayer(kShape, GoodPlan::kCandidates, 2).status().message()),
              HasSubstr("2 windows"));
  EXPECT_THAT(std::string(ScoreLayer(kShape, GoodPlan::kCandidates, 1, 1).status().message()),
              HasSubstr("focus window of 1"));
  ASSERT_TRUE(ScoreLayer(kShape, GoodPlan::kCandidates).ok());
  ASSERT_TRUE(device_->chooser()->ChooseLayer().ok());
  EXPECT_THAT(std::string(ScoreLayer(kShape, GoodPlan::kCandidates).status().message()),
              HasSubstr("layer 1 of 1"));
}

}  // namespace
}  // namespace kvec::kernels::cuda
