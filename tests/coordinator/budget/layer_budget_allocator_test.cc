#include "coordinator/budget/layer_budget_allocator.h"

#include <numeric>
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
