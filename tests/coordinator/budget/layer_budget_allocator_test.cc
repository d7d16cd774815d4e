#include "coordinator/budget/layer_budget_allocator.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::budget {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

v1::CachePolicy Policy(uint32_t budget, const std::string& layer_allocation) {
  v1::CachePolicy policy;
  policy.set_policy("kvec");
  policy.set_budget_tokens(budget);
  policy.set_observation_window(16);
  policy.set_layer_allocation(layer_allocation);
  return policy;
}

TEST(LayerBudgetAllocator, GivesEveryLayerTheSame) {
  const LayerBudgetAllocator allocator(3, {0, 0});
  EXPECT_THAT(*allocator.LayerBudgets(Policy(64, "uniform"), 1000), ElementsAre(144, 144));
}

TEST(LayerBudgetAllocator, LeavesSlidingWindowLayersOut) {
  const LayerBudgetAllocator allocator(1, {512, 0, 512, 0});
  EXPECT_THAT(*allocator.LayerBudgets(Policy(64, "uniform"), 1000), ElementsAre(0, 48, 0, 48));
}

TEST(LayerBudgetAllocator, KeepsAPromptThatFits) {
  const LayerBudgetAllocator allocator(3, {0, 0});
  EXPECT_THAT(*allocator.LayerBudgets(Policy(64, "uniform"), 64), IsEmpty());
  EXPECT_THAT(*allocator.LayerBudgets(Policy(64, "uniform"), 16), IsEmpty());
}

TEST(LayerBudgetAllocator, TakesAShareOfThePrompt) {
  const LayerBudgetAllocator allocator(1, {0});
  v1::CachePolicy policy = Policy(0, "uniform");
  policy.set_budget_share(0.25f);
  EXPECT_THAT(*allocator.LayerBudgets(policy, 1001), ElementsAre(251 - 16));
}

TEST(LayerBudgetAllocator, RejectsABudgetWithinTheWindow) {
  const LayerBudgetAllocator allocator(1, {0});
  const auto budgets = allocator.LayerBudgets(Policy(16, "uniform"), 1000);
  EXPECT_EQ(budgets.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(budgets.status().message()), HasSubstr("16 tokens"));
}

TEST(LayerBudgetAllocator, RejectsAMissingBudget) {
  const LayerBudgetAllocator allocator(1, {0});
  v1::CachePolicy policy = Policy(0, "uniform");
  policy.clear_budget_tokens();
  EXPECT_THAT(std::string(allocator.LayerBudgets(policy, 1000).status().message()),
              HasSubstr("cache.budget: missing"));
}

TEST(LayerBudgetAllocator, AsksForCurvesFromTheFloorUpToEverything) {
  const LayerBudgetAllocator allocator(3, {0, 0, 512});
  const v1::CachePolicy policy = Policy(64, "coverage");
  const auto uniform = *allocator.LayerBudgets(policy, 1000);
  EXPECT_THAT(uniform, ElementsAre(144, 144, 0));
  const std::vector<uint32_t> samples = allocator.CurveBudgets(policy, uniform, 1000);
  EXPECT_EQ(samples.front(), 72);
  EXPECT_EQ(samples.back(), 3 * 984);
  for (size_t i = 1; i < samples.size(); ++i) EXPECT_LT(samples[i - 1], samples[i]);
  EXPECT_THAT(allocator.CurveBudgets(Policy(64, "uniform"), uniform, 1000), IsEmpty());
}

TEST(LayerBudgetAllocator, GivesEntriesWhereTheyKeepTheMost) {
  const LayerBudgetAllocator allocator(1, {0, 0, 512});
  const std::vector<uint32_t> samples = {50, 100, 150, 200, 400};
  const std::vector<float> flat = {0.20f, 0.30f, 0.40f, 0.50f, 0.90f};
  const std::vector<float> steep = {0.50f, 0.80f, 0.95f, 0.97f, 1.00f};
  EXPECT_THAT(allocator.BudgetsByCurves({100, 100, 0}, samples, {flat, steep, {}}),
              ElementsAre(50, 150, 0));
  // Beyond 150 the other layer gains more.
  EXPECT_THAT(allocator.BudgetsByCurves({150, 150, 0}, samples, {flat, steep, {}}),
              ElementsAre(150, 150, 0));
  EXPECT_THAT(allocator.BudgetsByCurves({60, 60, 0}, samples, {flat, flat, {}}),
              ElementsAre(70, 50, 0));
}

TEST(LayerBudgetAllocator, NeverExceedsTheRequestsTotalByCurves) {
  const LayerBudgetAllocator allocator(3, std::vector<int>(12, 0));
  std::mt19937 random(7);
  for (int trial = 0; trial < 200; ++trial) {
    const auto budget = std::uniform_int_distribution<uint32_t>(17, 400)(random);
    const v1::CachePolicy policy = Policy(budget, "coverage");
    const auto uniform = *allocator.LayerBudgets(policy, 401);
    const auto samples = allocator.CurveBudgets(policy, uniform, 401);
    std::vector<std::vector<float>> curves(12);
    for (auto& curve : curves) {
      std::vector<float> gains(samples.size());
      for (float& gain : gains) gain = std::uniform_real_distribution<float>(0, 1)(random);
      std::sort(gains.rbegin(), gains.rend());
      std::partial_sum(gains.begin(), gains.end(), std::back_inserter(curve));
    }
    const auto budgets = allocator.BudgetsByCurves(uniform, samples, curves);
    EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), 0u),
              std::accumulate(uniform.begin(), uniform.end(), 0u));
    for (uint32_t layer_budget : budgets) {
      EXPECT_GE(layer_budget, samples.front());
      EXPECT_LE(layer_budget, samples.back());
    }
  }
}

// What pyramid_budgets of the NumPy oracle gives.
TEST(PyramidBudgets, EqualsTheOracle) {
  EXPECT_THAT(PyramidBudgets(6, 48, 304), ElementsAre(94, 75, 57, 39, 21, 2));
  EXPECT_THAT(PyramidBudgets(4, 32, 241), ElementsAre(62, 42, 22, 2));
  EXPECT_THAT(PyramidBudgets(5, 84, 384), ElementsAre(164, 124, 84, 44, 4));
  EXPECT_THAT(PyramidBudgets(3, 48, 54), ElementsAre(54, 48, 42));
  EXPECT_THAT(PyramidBudgets(1, 48, 54), ElementsAre(48));
  EXPECT_THAT(PyramidBudgets(3, 60, 54), ElementsAre(54, 54, 54));
}

}  // namespace
}  // namespace kvec::coordinator::budget
