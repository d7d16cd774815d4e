// Who runs, who waits, who is preempted, and who is refused.

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
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SchedulerAdmissionTest, LetsNobodyOvertakeARequestThatWaitsForPages) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(10));
  driver.Submit(MakeRequest("running", 100, 20));
  driver.SendAndAnswer();
  const auto large = driver.Submit(MakeRequest("large", 140, 1));
  const auto small = driver.Submit(MakeRequest("small", 4, 1));
  while (!large->done().has_value()) {
    driver.SendAndAnswer();
    if (!large->done().has_value()) {
      ASSERT_FALSE(small->done().has_value());
    }
  }
  driver.RunToEnd();
  EXPECT_TRUE(small->done()->ok());
}

TEST(SchedulerAdmissionTest, RunsHigherPrioritiesFirst) {
  SchedulerOptions options = SmallSteps();
  options.max_running_sequences = 1;
  SchedulerDriver driver(options);
  const auto low = driver.Submit(MakeRequest("low", 4, 3));
  Request urgent = MakeRequest("urgent", 4, 3);
  urgent.priority = 5;
  const auto high = driver.Submit(urgent);
  driver.FormGroup(OneWorker(10));
  while (!high->done().has_value()) driver.SendAndAnswer();
  EXPECT_THAT(low->choices(), IsEmpty());
  driver.RunToEnd();
  EXPECT_TRUE(low->done()->ok());
}

TEST(SchedulerAdmissionTest, FeedsAnUrgentPromptBeforeTheRestOfAnother) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  driver.Submit(MakeRequest("low", 500, 1));
  driver.SendAndAnswer();
  Request urgent = MakeRequest("urgent", 20, 1);
  urgent.priority = 1;
  driver.Submit(urgent);
  const v1::Step step = driver.SendAndAnswer();
  ASSERT_EQ(step.starts_size(), 1);
  EXPECT_EQ(step.work(0).sequence_id(), step.starts(0).sequence_id());
  EXPECT_EQ(step.work(0).token_ids_size(), 20);
  EXPECT_EQ(step.work(1).token_ids_size(), 12);
}

TEST(SchedulerAdmissionTest, PreemptsTheLowestInRankAndReplaysIt) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(5));
  // Two pages each; the fifth page goes to the first to need one.
  const Request first_request = MakeRequest("first", 20, 40);
  const Request second_request = MakeRequest("second", 20, 40);
  const auto first = driver.Submit(first_request);
  const auto second = driver.Submit(second_request);
  bool was_preempted = false;
  while (!first->done().has_value()) {
    const v1::Step step = driver.SendAndAnswer();
    if (step.freed_sequence_ids_size() > 0 && !first->done().has_value()) {
      was_preempted = true;
      EXPECT_THAT(step.freed_sequence_ids(), ElementsAre(2));
    }
  }
  EXPECT_TRUE(was_preempted);
  const size_t delivered = second->choice(0).tokens.size();
  EXPECT_GT(delivered, 0);
  EXPECT_FALSE(second->done().has_value());
  // The replay: the prompt as a prompt, then what was generated in one chunk through the decode
  // path.
  const v1::Step prompt = driver.SendAndAnswer();
  ASSERT_EQ(prompt.work_size(), 1);
  EXPECT_TRUE(prompt.work(0).is_prompt());
  EXPECT_EQ(prompt.work(0).token_ids_size(), 20);
  EXPECT_FALSE(prompt.work(0).sample());
  const v1::Step replay = driver.SendAndAnswer();
  EXPECT_FALSE(replay.work(0).is_prompt());
  EXPECT_EQ(replay.work(0).token_ids_size(), delivered);
  EXPECT_TRUE(replay.work(0).sample());
  driver.RunToEnd();
  EXPECT_EQ(second->choice(0).tokens, RunAlone(second_request, 0, {}, 0).tokens);
  EXPECT_EQ(second->usage().preemptions(), 1);
  EXPECT_EQ(first->usage().preemptions(), 0);
  EXPECT_EQ(driver.scheduler().counts().preemptions, 1);
  EXPECT_EQ(driver.scheduler().counts().prompt_tokens, 40) << "replays don't count";
}

TEST(SchedulerAdmissionTest, PreemptsLowPrioritiesBeforeLateArrivals) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(5));
  const auto early = driver.Submit(MakeRequest("early", 20, 40));
  Request urgent = MakeRequest("late but urgent", 20, 40);
  urgent.priority = 1;
  const auto late = driver.Submit(urgent);
  driver.RunToEnd();
  EXPECT_EQ(late->usage().preemptions(), 0);
  EXPECT_GT(early->usage().preemptions(), 0);
  EXPECT_TRUE(early->done()->ok());
}

TEST(SchedulerAdmissionTest, FinishesAPreemptedRequestByAResultFromBefore) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(5));
  driver.Submit(MakeRequest("first", 20, 40));
  // Its 14th token needs no third page; the token after it would.
  const auto second = driver.Submit(MakeRequest("second", 20, 13));
  driver.RunToEnd();
  EXPECT_EQ(second->usage().preemptions() + second->choice(0).tokens.size(), 13u);
  EXPECT_TRUE(second->done()->ok());
}

TEST(SchedulerAdmissionTest, RefusesAtOnceWhatCanNeverFit) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(4));
  driver.Submit(MakeRequest("fits", 63, 1));
  EXPECT_TRUE(driver.last_status().ok()) << driver.last_status();
  driver.Submit(MakeRequest("does not", 64, 1));
  EXPECT_EQ(driver.last_status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(driver.last_status().message()), HasSubstr("5 needed for 65 tokens"));
  Request wide = MakeRequest("wide", 20, 1);
  wide.num_choices = 4;
  driver.Submit(wide);
  EXPECT_EQ(driver.last_status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(SchedulerAdmissionTest, EndsWaitingRequestsThatDoNotFitTheGroupThatForms) {
  SchedulerDriver driver(SmallSteps());
  const auto sink = driver.Submit(MakeRequest("a", 100, 1));
  EXPECT_TRUE(driver.last_status().ok());
  driver.FormGroup(OneWorker(4));
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(driver.Send().has_value());
}

TEST(SchedulerAdmissionTest, EndsARequestThatOutgrowsThePool) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(4));
  const auto sink = driver.Submit(MakeRequest("a", 20, 1000));
  const auto next = driver.Submit(MakeRequest("b", 20, 3));
  driver.RunToEnd();
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(sink->choice(0).tokens.size(), 64 - 20 + 1) << "all that the pool can hold";
  EXPECT_TRUE(next->done()->ok());
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 4);
}

TEST(SchedulerAdmissionTest, EndsARequestWhoseReplayNeedsMoreThanThePool) {
  // Under a sliding window a decode holds two pages at most, a chunk as many as it has tokens.
  SchedulerOptions options = SmallSteps();
  options.step_tokens = 64;
  SchedulerDriver driver(options);
  std::vector<WorkerCapacity> worker = OneWorker(3);
  worker[0].sliding_windows = {16};
  driver.FormGroup(worker);
  const auto low = driver.Submit(MakeRequest("low", 4, 200));
  for (int i = 0; i < 60; ++i) driver.SendAndAnswer();
  Request urgent = MakeRequest("urgent", 4, 60);
  urgent.priority = 1;
  const auto high = driver.Submit(urgent);
  const auto next = driver.Submit(MakeRequest("next", 4, 3));
  driver.RunToEnd();
  EXPECT_TRUE(high->done()->ok());
  EXPECT_EQ(low->usage().preemptions(), 1);
  EXPECT_EQ(low->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(next->done()->ok()) << "it does not block the queue";
}

TEST(SchedulerAdmissionTest, BoundsTheQueue) {
  SchedulerOptions options = SmallSteps();
  options.max_waiting_requests = 2;
  options.max_waiting_tokens = 100;
  SchedulerDriver driver(options);
  driver.Submit(MakeRequest("a", 50, 1));
  driver.Submit(MakeRequest("too many tokens", 51, 1));
  EXPECT_EQ(driver.last_status().code(), absl::StatusCode::kResourceExhausted);
  driver.Submit(MakeRequest("b", 50, 1));
  EXPECT_TRUE(driver.last_status().ok());
  EXPECT_EQ(driver.scheduler().counts().waiting_prompt_tokens, 100);
  driver.Submit(MakeRequest("too many", 1, 1));
  EXPECT_EQ(driver.last_status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 2);
  driver.FormGroup(OneWorker(100));
  driver.RunToEnd();
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 0);
}

TEST(SchedulerAdmissionTest, RefusesBadRequests) {
  SchedulerDriver driver(SmallSteps());
  struct Case {
    absl::StatusCode code;
    const char* message;
    Request request;
  };
  std::vector<Case> cases;
  cases.push_back({absl::StatusCode::kInvalidArgument, "prompt: empty", MakeRequest("a", 0, 1)});
  cases.push_back({absl::StatusCode::kInvalidArgument, "max_tokens: 0", MakeRequest("a", 1, 0)});
  cases.push_back({absl::StatusCode::kInvalidArgument, "n: 0", MakeRequest("a", 1, 1)});
  cases.back().request.num_choices = 0;
  cases.push_back({absl::StatusCode::kInvalidArgument, "n: 2", MakeRequest("a", 1, 1)});
  cases.back().request.num_choices = 2;
  cases.back().request.forced_tokens = {1};
  cases.push_back({absl::StatusCode::kResourceExhausted, "n: 17", MakeRequest("a", 1, 1)});
  cases.back().request.num_choices = 17;
  cases.push_back({absl::StatusCode::kInvalidArgument, "kvec", MakeRequest("a", 1, 1)});
  cases.back().request.cache.set_policy("kvec");
  for (Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    driver.Submit(bad.request);
    EXPECT_EQ(driver.last_status().code(), bad.code);
    EXPECT_THAT(std::string(driver.last_status().message()), HasSubstr(bad.message));
  }
  EXPECT_EQ(driver.scheduler().Submit(MakeRequest("a", 1, 1), driver.now()).code(),
            absl::StatusCode::kInvalidArgument)
      << "no sink";
  driver.Submit(MakeRequest("a", 1, 1));
  driver.Submit(MakeRequest("a", 1, 1));
  EXPECT_EQ(driver.last_status().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
