// Requests whose prompts begin alike.

#include <memory>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Ten entries of each layer.
class TenAllocator : public BudgetAllocator {
 public:
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy&,
                                                     uint32_t) const override {
    return std::vector<uint32_t>{10};
  }
};

EvictionSchedule ScheduleOf(const Request& request) {
  if (request.cache.policy() != "ten") return EvictionSchedule();
  return *EvictionSchedule::Make(request.cache, static_cast<uint32_t>(request.prompt.size()),
                                 TenAllocator());
}

SchedulerOptions Caching() {
  SchedulerOptions options = SmallSteps();
  options.step_tokens = 64;
  options.prefix_caching = true;
  return options;
}

Request Evicted(Request request, uint32_t observation_window, uint32_t wide_window) {
  request.cache.set_policy("ten");
  request.cache.set_observation_window(observation_window);
  request.cache.set_wide_window(wide_window);
  return request;
}

class SchedulerPrefixTest : public ::testing::Test {
 protected:
  void Use(const std::vector<WorkerCapacity>& workers, const SchedulerOptions& options = Caching()) {
    driver_ =
        std::make_unique<SchedulerDriver>(options, std::make_shared<TenAllocator>());
    driver_->FormGroup(workers);
  }

  // Runs a request to its end, alone, and checks its tokens. Returns its sink.
  std::shared_ptr<RecordingSink> Run(const Request& request) {
    const auto sink = driver_->Submit(request);
    driver_->RunToEnd();
    EXPECT_TRUE(sink->done()->ok()) << *sink->done();
    EXPECT_EQ(sink->choice(0).tokens, RunAlone(request, 0, ScheduleOf(request), 0).tokens);
    return sink;
  }
  uint32_t CachedTokens(const Request& request) { return Run(request)->usage().cached_tokens(); }

  std::unique_ptr<SchedulerDriver> driver_;
};

TEST_F(SchedulerPrefixTest, FeedsOnlyWhatIsNotCached) {
  Use(OneWorker(100));
  EXPECT_EQ(CachedTokens(MakeRequest("a", 60, 5)), 0);
  const auto sink = driver_->Submit(MakeRequest("b", 60, 5));
  const v1::Step step = driver_->SendAndAnswer();
  EXPECT_THAT(step.starts(0).block_ids(), ElementsAre(1, 2, 3));
  EXPECT_EQ(step.starts(0).cached_token_ids_size(), 48);
  EXPECT_EQ(step.work(0).first_position(), 48);
  EXPECT_EQ(step.work(0).token_ids_size(), 12);
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, RunAlone(MakeRequest("b", 60, 5), 0, {}, 0).tokens);
  EXPECT_EQ(sink->usage().cached_tokens(), 48);
  EXPECT_EQ(sink->usage().prompt_tokens(), 60);
  EXPECT_EQ(driver_->scheduler().counts().prefix_cache_queries, 120);
  EXPECT_EQ(driver_->scheduler().counts().prefix_cache_hits, 48);
  EXPECT_EQ(driver_->scheduler().counts().prompt_tokens, 60 + 12);
}

TEST_F(SchedulerPrefixTest, LeavesTheLastTokenOfAPromptToBeFed) {
  Use(OneWorker(100));
  Run(MakeRequest("a", 64, 5));
  EXPECT_EQ(CachedTokens(MakeRequest("b", 64, 5)), 48);
  EXPECT_EQ(CachedTokens(MakeRequest("c", 65, 5)), 64);
}

TEST_F(SchedulerPrefixTest, SharesWithARequestThatStillRuns) {
  Use(OneWorker(100));
  const auto first = driver_->Submit(MakeRequest("a", 60, 40));
  driver_->SendAndAnswer();
  const auto second = driver_->Submit(MakeRequest("b", 60, 40));
  driver_->SendAndAnswer();
  driver_->SendAndAnswer();
  // 3 blocks shared, and of each the fourth page.
  EXPECT_THAT(driver_->scheduler().free_pages(), ElementsAre(100 - 5));
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(0));
  driver_->RunToEnd();
  for (const auto& sink : {first, second}) {
    EXPECT_EQ(sink->choice(0).tokens, RunAlone(MakeRequest("a", 60, 40), 0, {}, 0).tokens);
  }
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(3));
}

TEST_F(SchedulerPrefixTest, FeedsEveryQueryThatAnEvictionScoresBy) {
  Use(OneWorker(100));
  Run(MakeRequest("a", 64, 5));
  EXPECT_EQ(CachedTokens(Evicted(MakeRequest("b", 64, 5), 16, 32)), 32);
  EXPECT_EQ(CachedTokens(Evicted(MakeRequest("c", 64, 5), 16, 33)), 16);
  EXPECT_EQ(CachedTokens(Evicted(MakeRequest("d", 64, 5), 50, 33)), 0);
}

TEST_F(SchedulerPrefixTest, KeepsAPromptThatWasEvictedFrom) {
  Use(OneWorker(100));
  const Request request = Evicted(MakeRequest("a", 60, 5), 1, 1);
  const auto first = driver_->Submit(request);
  const v1::Step step = driver_->SendAndAnswer();
  ASSERT_EQ(step.keeps_size(), 1);
  EXPECT_THAT(step.keeps(0).block_ids(), ElementsAre(1, 2, 3));
  EXPECT_EQ(step.evictions_size(), 1);
  driver_->RunToEnd();
  EXPECT_EQ(first->choice(0).tokens, RunAlone(request, 0, ScheduleOf(request), 0).tokens);
  EXPECT_EQ(CachedTokens(MakeRequest("b", 60, 5)), 48);
  EXPECT_EQ(CachedTokens(Evicted(MakeRequest("c", 60, 5), 1, 1)), 48);
}

TEST_F(SchedulerPrefixTest, DoesNotKeepAPromptWhoseCopiesWouldNotFit) {
  Use(OneWorker(4));
  const auto sink = driver_->Submit(Evicted(MakeRequest("a", 64, 5), 1, 1));
  const v1::Step step = driver_->SendAndAnswer();
  EXPECT_EQ(step.keeps_size(), 0);
  driver_->RunToEnd();
  EXPECT_TRUE(sink->done()->ok()) << *sink->done();
}

TEST_F(SchedulerPrefixTest, ForgetsCachedPagesBeforeARequestWaits) {
  Use(OneWorker(8));
  Run(MakeRequest("a", 64, 5));
  Request other = MakeRequest("b", 64, 30);
  other.prompt[0] = 99;
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(4));
  const auto sink = Run(other);
  EXPECT_EQ(sink->usage().preemptions(), 0);
  EXPECT_EQ(CachedTokens(MakeRequest("c", 64, 5)), 32) << "its end went first";
}

TEST_F(SchedulerPrefixTest, ForgetsNothingForARequestThatMustWaitAnyway) {
  Use(OneWorker(10));
  Run(MakeRequest("a", 48, 5));
  Request running = MakeRequest("b", 96, 8);
  running.prompt[0] = 99;
  driver_->Submit(running);
  driver_->SendAndAnswer();
  Request waiting = MakeRequest("c", 80, 5);
  waiting.prompt[0] = 98;
  driver_->Submit(waiting);
  EXPECT_THAT(driver_->SendAndAnswer().freed_block_ids(), IsEmpty());
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(3));
}

TEST_F(SchedulerPrefixTest, ScoresAPromptWithoutTheCache) {
  Use(OneWorker(100));
  Run(MakeRequest("a", 64, 5));
  Request request = MakeRequest("b", 64, 5);
  request.sampling.set_prompt_logprobs(0);
  const auto sink = Run(request);
  EXPECT_EQ(sink->usage().cached_tokens(), 0);
  EXPECT_EQ(sink->prompt_logprobs().size(), 63);
}

TEST_F(SchedulerPrefixTest, ForksASharedPrompt) {
  Use(OneWorker(100));
  Run(MakeRequest("a", 60, 5));
  Request request = MakeRequest("b", 60, 20);
  request.num_choices = 3;
  const auto sink = Run(request);
  EXPECT_EQ(sink->usage().cached_tokens(), 48);
  for (uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(sink->choice(choice).tokens, RunAlone(request, choice, {}, 0).tokens);
  }
  EXPECT_EQ(driver_->scheduler().free_pages()[0] + driver_->scheduler().cached_pages()[0], 100);
}

TEST_F(SchedulerPrefixTest, ForgetsEverythingWithTheGroup) {
  Use(OneWorker(100));
  Run(MakeRequest("a", 64, 5));
  driver_->LoseGroup();
  driver_->FormGroup(OneWorker(100));
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(0));
  EXPECT_EQ(CachedTokens(MakeRequest("b", 64, 5)), 0);
  EXPECT_EQ(CachedTokens(MakeRequest("c", 64, 5)), 48);
}

TEST_F(SchedulerPrefixTest, ReplaysFromTheCache) {
  Use(OneWorker(100));
  const auto sink = driver_->Submit(MakeRequest("a", 60, 40));
  for (int i = 0; i < 10; ++i) driver_->SendAndAnswer();
  driver_->LoseGroup();
  driver_->FormGroup(OneWorker(100));
  Request other = MakeRequest("b", 60, 1);
  other.priority = 1;
  driver_->Submit(other);
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, RunAlone(MakeRequest("a", 60, 40), 0, {}, 0).tokens);
  EXPECT_EQ(sink->usage().cached_tokens(), 0) << "of its first prefill";
}

TEST_F(SchedulerPrefixTest, KeepsNothingOfModelsWithSlidingWindows) {
  std::vector<WorkerCapacity> workers = OneWorker(100);
  workers[0].sliding_windows = {0, 32};
  Use(workers);
  Run(MakeRequest("a", 64, 5));
  EXPECT_EQ(CachedTokens(MakeRequest("b", 64, 5)), 0);
  EXPECT_THAT(driver_->scheduler().free_pages(), ElementsAre(100));
}

TEST_F(SchedulerPrefixTest, KeepsNothingWhenItIsOff) {
  SchedulerOptions options = Caching();
  options.prefix_caching = false;
  Use(OneWorker(100), options);
  Run(MakeRequest("a", 64, 5));
  EXPECT_EQ(CachedTokens(MakeRequest("b", 64, 5)), 0);
  EXPECT_EQ(driver_->scheduler().counts().prefix_cache_queries, 0);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
