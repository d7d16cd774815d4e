// Requests whose prompt is evicted from.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/scheduler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class HalfAllocator : public BudgetAllocator {
 public:
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                     uint32_t prompt_tokens) const override {
    if (policy.policy() != "half") {
      return absl::InvalidArgumentError(absl::StrCat("cache.policy: ", policy.policy()));
    }
    return std::vector<uint32_t>{prompt_tokens / 2};
  }
};

EvictionSchedule ScheduleOf(const Request& request) {
  return *EvictionSchedule::Make(request.cache, static_cast<uint32_t>(request.prompt.size()),
                                 HalfAllocator());
}

TEST(SchedulerEvictionTest, OrdersTheEvictionWithThePromptsLastChunk) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(OneWorker(5));
  Request request = MakeRequest("a", 64, 60);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  EXPECT_EQ(driver.SendAndAnswer().evictions_size(), 0);
  const v1::Step last_chunk = driver.SendAndAnswer();
  ASSERT_EQ(last_chunk.evictions_size(), 1);
  EXPECT_EQ(last_chunk.evictions(0).sequence_id(), 1);
  EXPECT_THAT(last_chunk.evictions(0).layer_budgets(), ElementsAre(32));
  EXPECT_THAT(driver.scheduler().free_pages(), ElementsAre(3)) << "at once";
  driver.RunToEnd();
  // 32 of the prompt's 64 entries and 48 generated ones fill the pool of 80.
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GE(sink->choice(0).tokens.size(), 48);
}

// All to the layer with the steepest curve.
class CurveAllocator : public HalfAllocator {
 public:
  std::vector<uint32_t> CurveBudgets(const v1::CachePolicy& policy,
                                     const std::vector<uint32_t>& layer_budgets,
                                     uint32_t num_tokens) const override {
    return {1};
  }
  std::vector<uint32_t> BudgetsByCurves(
      const std::vector<uint32_t>& layer_budgets, const std::vector<uint32_t>& curve_budgets,
      const std::vector<std::vector<float>>& curves) const override {
    return {7};
  }
};

TEST(SchedulerEvictionTest, OrdersTheEvictionWhenTheCurvesHaveCome) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<CurveAllocator>());
  driver.FormGroup(OneWorker(100));
  Request request = MakeRequest("a", 20, 3);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  const std::optional<v1::Step> last_chunk = driver.Send();
  ASSERT_TRUE(last_chunk.has_value());
  EXPECT_EQ(last_chunk->evictions_size(), 0);
  EXPECT_THAT(last_chunk->work(0).curve_budgets(), ElementsAre(1));
  EXPECT_FALSE(driver.Send().has_value()) << "nothing may be fed before the eviction";
  driver.Answer();
  const v1::Step eviction = driver.SendAndAnswer();
  EXPECT_EQ(eviction.work_size(), 0);
  ASSERT_EQ(eviction.evictions_size(), 1);
  EXPECT_EQ(eviction.evictions(0).position(), 20);
  EXPECT_THAT(eviction.evictions(0).layer_budgets(), ElementsAre(7));
  driver.RunToEnd();
  EXPECT_TRUE(sink->done()->ok());
  EXPECT_EQ(sink->usage().logical_kv_bytes(), (7 + 2) * 100);
}

// What comes of the only Step of an evicted prompt when `spoil` has changed its result.
absl::Status AnswerSpoilt(std::shared_ptr<const BudgetAllocator> budgets,
                          absl::FunctionRef<void(v1::StepResult&)> spoil) {
  SchedulerDriver driver(SmallSteps(), std::move(budgets));
  driver.FormGroup(OneWorker(100));
  Request request = MakeRequest("a", 20, 3);
  request.cache.set_policy("half");
  driver.Submit(request);
  EXPECT_TRUE(driver.Send().has_value());
  EXPECT_TRUE(driver.group().Execute(0).ok());
  v1::StepResult result = driver.group().TakeResult(0);
  spoil(result);
  return driver.scheduler().OnStepResult(0, result, driver.now());
}

TEST(SchedulerEvictionTest, RefusesAResultWithoutTheCurves) {
  const absl::Status status = AnswerSpoilt(std::make_shared<CurveAllocator>(),
                                           [](v1::StepResult& result) { result.clear_curves(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("0 curves of 1"));
}

TEST(SchedulerEvictionTest, WaitsForTheRoomThatAnEvictionMakes) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(OneWorker(4));
  Request request = MakeRequest("a", 64, 20);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  driver.SendAndAnswer();
  ASSERT_TRUE(driver.Send().has_value());
  EXPECT_FALSE(driver.Send().has_value()) << "the prompt fills the pool until the eviction has run";
  driver.Answer();
  driver.RunToEnd();
  EXPECT_TRUE(sink->done()->ok());
  EXPECT_EQ(sink->usage().preemptions(), 0);
}

TEST(SchedulerEvictionTest, CountsTheBytesThatAnEvictionKept) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(OneWorker(100));
  Request request = MakeRequest("a", 64, 3);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  driver.RunToEnd();
  EXPECT_EQ(sink->usage().logical_kv_bytes(), (32 + 2) * 100);
  EXPECT_EQ(sink->usage().kv_bytes(), 3 * 1600);
}

TEST(SchedulerEvictionTest, RefusesAResultWithoutThePagesOfAnEviction) {
  const absl::Status status =
      AnswerSpoilt(std::make_shared<HalfAllocator>(),
                   [](v1::StepResult& result) { result.clear_changed_pages(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("0 evicted sequences, expected 1"));
}

// Both replays have more tokens than room: neither could go on if the later one did not step back.
TEST(SchedulerEvictionTest, LetsOneOfTwoReplaysThatWaitForEachOtherGoFirst) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(OneWorker(40));
  std::vector<Request> requests = {MakeRequest("a", 20, 80), MakeRequest("b", 20, 80)};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (Request& request : requests) {
    request.cache.set_policy("half");
    sinks.push_back(driver.Submit(request));
  }
  while (sinks[1]->choice(0).tokens.size() < 75) driver.SendAndAnswer();
  driver.LoseGroup();
  driver.FormGroup(OneWorker(6));
  driver.RunToEnd();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(sinks[i]->done().has_value());
    EXPECT_TRUE(sinks[i]->done()->ok()) << *sinks[i]->done();
    EXPECT_EQ(sinks[i]->choice(0).tokens,
              RunAlone(requests[i], 0, ScheduleOf(requests[i]), 0).tokens);
  }
  EXPECT_EQ(sinks[1]->usage().preemptions(), 1);
}

TEST(SchedulerEvictionTest, EndsAReplayThatHasOutgrownASmallerGroup) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(OneWorker(40));
  Request request = MakeRequest("a", 20, 80);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  while (sink->choice(0).tokens.size() < 75) driver.SendAndAnswer();
  driver.LoseGroup();
  driver.FormGroup(OneWorker(4));
  driver.RunToEnd();
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 4);
}

TEST(SchedulerEvictionTest, PassesOnWhatTheAllocatorRefuses) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  Request request = MakeRequest("a", 64, 60);
  request.cache.set_policy("third");
  driver.Submit(request);
  EXPECT_EQ(driver.last_status(), absl::InvalidArgumentError("cache.policy: third"));
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
