#include "coordinator/scheduler/eviction_schedule.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// One layer that keeps the budget.
class OneLayerAllocator : public BudgetAllocator {
 public:
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                     uint32_t num_tokens) const override {
    const uint32_t budget = BudgetTokens(policy, num_tokens);
    if (budget >= num_tokens) return std::vector<uint32_t>();
    return std::vector<uint32_t>{budget};
  }
};

v1::CachePolicy Policy(uint32_t budget, uint32_t prefill_bound, uint32_t decode_interval) {
  v1::CachePolicy policy;
  policy.set_policy("kvec");
  policy.set_budget_tokens(budget);
  policy.set_prefill_bound_tokens(prefill_bound);
  policy.set_decode_interval_tokens(decode_interval);
  return policy;
}

EvictionSchedule Make(const v1::CachePolicy& policy, uint32_t prompt_tokens) {
  const auto schedule = EvictionSchedule::Make(policy, prompt_tokens, OneLayerAllocator());
  EXPECT_TRUE(schedule.ok()) << schedule.status();
  return *schedule;
}

// The positions up to `end` at which the schedule evicts.
std::vector<uint32_t> Positions(const EvictionSchedule& schedule, uint32_t end) {
  std::vector<uint32_t> positions;
  for (uint32_t next = schedule.Next(0); next <= end; next = schedule.Next(next)) {
    positions.push_back(next);
  }
  return positions;
}

TEST(EvictionScheduleTest, IsEmptyWhereTheBudgetHoldsThePrompt) {
  const EvictionSchedule schedule = Make(Policy(100, 0, 0), 100);
  EXPECT_TRUE(schedule.is_empty());
  EXPECT_EQ(schedule.Next(0), EvictionSchedule::kNever);
  EXPECT_THAT(schedule.budgets_from_prompt_end(), IsEmpty());
}

TEST(EvictionScheduleTest, EvictsAtThePromptsEndAlone) {
  const EvictionSchedule schedule = Make(Policy(40, 0, 0), 100);
  EXPECT_THAT(Positions(schedule, 10'000), ElementsAre(100));
  EXPECT_THAT(*schedule.BudgetsAt(100), ElementsAre(40));
  EXPECT_EQ(schedule.BudgetsAt(99), nullptr);
}

TEST(EvictionScheduleTest, NeverLetsMoreComeTogetherThanTheBound) {
  for (uint32_t prompt_tokens : {1100u, 1101u, 4000u}) {
    const EvictionSchedule schedule = Make(Policy(100, 1000, 0), prompt_tokens);
    ASSERT_TRUE(schedule.has_prefill());
    uint32_t held = 0;
    uint32_t position = 0;
    for (uint32_t next : Positions(schedule, prompt_tokens)) {
      held += next - position;
      EXPECT_LE(held, 1000);
      held = schedule.BudgetsAt(next)->front();
      position = next;
    }
    EXPECT_EQ(position, prompt_tokens);
    EXPECT_EQ(held, 100);
  }
}

TEST(EvictionScheduleTest, LeavesShortPromptsToTheirEnd) {
  EXPECT_THAT(Positions(Make(Policy(100, 1000, 0), 1000), 10'000), ElementsAre(1000));
  EXPECT_FALSE(Make(Policy(100, 1000, 0), 1000).has_prefill());
  EXPECT_TRUE(Make(Policy(100, 1000, 0), 50).is_empty());
}

TEST(EvictionScheduleTest, EvictsWheneverTheIntervalWasGenerated) {
  const EvictionSchedule schedule = Make(Policy(40, 0, 30), 100);
  EXPECT_THAT(Positions(schedule, 200), ElementsAre(100, 130, 160, 190));
  EXPECT_THAT(*schedule.BudgetsAt(130), ElementsAre(40));
  EXPECT_EQ(schedule.BudgetsAt(145), nullptr);
}

TEST(EvictionScheduleTest, WaitsUntilAnOutputExceedsTheBudget) {
  EXPECT_THAT(Positions(Make(Policy(100, 0, 30), 20), 200), ElementsAre(110, 140, 170, 200));
  EXPECT_THAT(Positions(Make(Policy(80, 0, 30), 20), 120), ElementsAre(110));  // 80 fit
  EXPECT_EQ(Make(Policy(UINT32_MAX, 0, 30), 20).Next(0), EvictionSchedule::kNever);
}

TEST(EvictionScheduleTest, TakesAShareOfThePromptForTheBudget) {
  v1::CachePolicy policy = Policy(0, 1000, 50);
  policy.set_budget_share(0.125F);
  const EvictionSchedule schedule = Make(policy, 2000);
  EXPECT_THAT(*schedule.BudgetsAt(2000), ElementsAre(250));
  EXPECT_THAT(*schedule.BudgetsAt(2050), ElementsAre(250));
  EXPECT_NE(schedule.BudgetsAt(1000), nullptr);
}

TEST(EvictionScheduleTest, RefusesABoundNearTheBudget) {
  const absl::Status status =
      EvictionSchedule::Make(Policy(256, 300, 0), 100, OneLayerAllocator()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("cache.prefill_bound_tokens: 300, must exceed the budget of 256"));
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
