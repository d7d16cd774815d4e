// How requests end, what is reported of them, and what becomes of them when a group is lost or its
// results are wrong.

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
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SchedulerRequestsTest, FreesACancelledRequestByTheNextStep) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 40, 100));
  const auto other = driver.Submit(MakeRequest("b", 4, 5));
  driver.SendAndAnswer();
  driver.SendAndAnswer();
  driver.scheduler().Cancel("a", absl::CancelledError("client left"), driver.now());
  EXPECT_EQ(*sink->done(), absl::CancelledError("client left"));
  const v1::Step step = driver.SendAndAnswer();
  EXPECT_THAT(step.freed_sequence_ids(), ElementsAre(1));
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 99);
  driver.scheduler().Cancel("a", absl::CancelledError("again"), driver.now());
  driver.scheduler().Cancel("nobody", absl::CancelledError(""), driver.now());
  driver.RunToEnd();
  EXPECT_EQ(sink->num_breaches(), 0);
  EXPECT_TRUE(other->done()->ok());
}

TEST(SchedulerRequestsTest, SendsAStepOfFreesOnlyWhenThereIsNothingElse) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  driver.Submit(MakeRequest("a", 40, 100));
  driver.SendAndAnswer();
  driver.scheduler().Cancel("a", absl::CancelledError(""), driver.now());
  const v1::Step step = driver.SendAndAnswer();
  EXPECT_EQ(step.work_size(), 0);
  EXPECT_THAT(step.freed_sequence_ids(), ElementsAre(1));
  EXPECT_THAT(driver.scheduler().free_pages(), ElementsAre(100));
  EXPECT_FALSE(driver.Send().has_value());
}

TEST(SchedulerRequestsTest, EndsRequestsAtTheirDeadlines) {
  SchedulerDriver driver(SmallSteps());
  EXPECT_EQ(driver.scheduler().NextDeadline(), absl::InfiniteFuture());
  Request late = MakeRequest("late", 4, 100);
  late.deadline = driver.now() + absl::Seconds(9);
  Request soon = MakeRequest("soon", 4, 100);
  soon.deadline = driver.now() + absl::Seconds(5);
  const auto late_sink = driver.Submit(late);
  const auto soon_sink = driver.Submit(soon);
  EXPECT_EQ(driver.scheduler().NextDeadline(), soon.deadline);
  driver.scheduler().ExpireDeadlines(soon.deadline - absl::Milliseconds(1));
  EXPECT_FALSE(soon_sink->done().has_value());
  driver.scheduler().ExpireDeadlines(soon.deadline);
  EXPECT_EQ(soon_sink->done()->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(late_sink->done().has_value());
  EXPECT_EQ(driver.scheduler().NextDeadline(), late.deadline);
}

TEST(SchedulerRequestsTest, ReportsUsage) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 40, 4));
  while (!sink->done().has_value()) driver.SendAndAnswer();
  const v1::Usage& usage = sink->usage();
  EXPECT_EQ(usage.prompt_tokens(), 40);
  EXPECT_EQ(usage.completion_tokens(), 4);
  EXPECT_DOUBLE_EQ(usage.queue_ms(), 1);
  EXPECT_DOUBLE_EQ(usage.time_to_first_token_ms(), 2);
  EXPECT_DOUBLE_EQ(usage.prefill_ms(), 1);
  EXPECT_EQ(usage.inter_token_ms_size(), 3);
  EXPECT_DOUBLE_EQ(usage.decode_tokens_per_second(), 1000);
  EXPECT_EQ(usage.kv_bytes(), 3 * 1600);
  EXPECT_EQ(usage.logical_kv_bytes(), 43 * 100);
  EXPECT_EQ(usage.coverage(), 1);
}

TEST(SchedulerRequestsTest, CountsRequestsAndTokens) {
  SchedulerDriver driver(SmallSteps());
  driver.Submit(MakeRequest("a", 4, 3));
  driver.Submit(MakeRequest("b", 50, 3));
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 2);
  EXPECT_EQ(driver.scheduler().counts().waiting_prompt_tokens, 54);
  driver.FormGroup(OneWorker(100));
  driver.SendAndAnswer();
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 0);
  EXPECT_EQ(driver.scheduler().counts().num_running, 2);
  driver.RunToEnd();
  const SchedulerCounts counts = driver.scheduler().counts();
  EXPECT_EQ(counts.num_running, 0);
  EXPECT_EQ(counts.generated_tokens, 6);
  EXPECT_EQ(counts.prompt_tokens, 54);
}

TEST(SchedulerRequestsTest, ReplaysOnTheNextGroupWithoutDeliveringTwice) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const Request request = MakeRequest("a", 20, 12);
  const auto sink = driver.Submit(request);
  for (int i = 0; i < 5; ++i) driver.SendAndAnswer();
  ASSERT_TRUE(driver.Send().has_value());  // lost on the way
  driver.LoseGroup();
  EXPECT_FALSE(driver.scheduler().NextStep(driver.now()).has_value());
  EXPECT_THAT(driver.scheduler().free_pages(), IsEmpty());
  EXPECT_EQ(sink->choice(0).tokens.size(), 5);
  driver.FormGroup(OneWorker(100));
  driver.RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, RunAlone(request, 0, {}, 0).tokens);
  EXPECT_EQ(sink->usage().preemptions(), 0) << "losing a group is no preemption";
}

// Workers die of one request as soon as they get it. It is ended; those beside it go on.
TEST(SchedulerRequestsTest, EndsARequestThatItsWorkersDieOf) {
  SchedulerDriver driver(SmallSteps());
  std::vector<Request> others = {MakeRequest("a", 20, 12), MakeRequest("c", 7, 12)};
  others[0].num_choices = 2;
  std::vector<std::shared_ptr<RecordingSink>> sinks = {driver.Submit(others[0])};
  const auto deadly = driver.Submit(MakeRequest("b", 50, 12));
  sinks.push_back(driver.Submit(others[1]));
  const auto is_running = [&driver](const std::string& id) {
    for (const v1::RequestStatus& request : driver.scheduler().RequestStatuses(10, driver.now())) {
      if (request.request_id() == id) return request.state() != "waiting";
    }
    return false;
  };
  int num_groups = 0;
  while (!deadly->done().has_value()) {
    ASSERT_LE(++num_groups, 10);
    driver.FormGroup(OneWorker(100));
    while (driver.Send().has_value() && !is_running("b")) driver.Answer();
    driver.LoseGroup();
  }
  EXPECT_EQ(deadly->done()->code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(deadly->done()->message()),
              HasSubstr("request b: its workers were lost 5"));
  driver.FormGroup(OneWorker(100));
  driver.RunToEnd();
  for (size_t i = 0; i < others.size(); ++i) {
    EXPECT_EQ(*sinks[i]->done(), absl::OkStatus());
    EXPECT_EQ(sinks[i]->choice(0).tokens, RunAlone(others[i], 0, {}, 0).tokens);
  }
}

TEST(SchedulerRequestsTest, ReplaysAsOftenAsThereIsAnotherToken) {
  SchedulerDriver driver(SmallSteps());
  const Request request = MakeRequest("a", 20, 12);
  const auto sink = driver.Submit(request);
  while (!sink->done().has_value()) {
    driver.FormGroup(OneWorker(100));
    const size_t num_tokens = sink->choice(0).tokens.size();
    while (sink->choice(0).tokens.size() == num_tokens) driver.SendAndAnswer();
    driver.LoseGroup();
  }
  EXPECT_EQ(*sink->done(), absl::OkStatus());
  EXPECT_EQ(sink->choice(0).tokens, RunAlone(request, 0, {}, 0).tokens);
}

TEST(SchedulerRequestsTest, IgnoresResultsOfOlderGroups) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  driver.Submit(MakeRequest("a", 20, 12));
  ASSERT_TRUE(driver.Send().has_value());
  ASSERT_TRUE(driver.group().Execute(0).ok());
  const v1::StepResult late = driver.group().TakeResult(0);
  driver.FormGroup(OneWorker(100));
  EXPECT_TRUE(driver.scheduler().OnStepResult(0, late, driver.now()).ok());
  driver.LoseGroup();
  EXPECT_TRUE(driver.scheduler().OnStepResult(0, late, driver.now()).ok());
}

// A result that does not fit what was sent: each case spoils one field of a good one.
TEST(SchedulerRequestsTest, RefusesResultsThatDoNotMatchTheStep) {
  struct Case {
    const char* message;
    void (*spoil)(v1::StepResult&);
  };
  const std::vector<Case> cases = {
      {"expected 1", [](v1::StepResult& result) { result.set_step_id(2); }},
      {"free_pages 101", [](v1::StepResult& result) { result.set_free_pages(101); }},
      {"no work in the step",
       [](v1::StepResult& result) { result.mutable_results(0)->set_sequence_id(9); }},
      {"0 tokens of 1", [](v1::StepResult& result) { result.clear_results(); }},
      {"0 scores of 3", [](v1::StepResult& result) { result.mutable_results(0)->clear_scored(); }},
      {"scored has 4", [](v1::StepResult& result) { result.mutable_results(0)->add_scored(); }},
      {"was not asked for",
       [](v1::StepResult& result) { *result.add_results() = result.results(1); }},
      {"logprobs are missing",
       [](v1::StepResult& result) { result.mutable_results(1)->clear_logprobs(); }},
      {"token_id 4294967295",
       [](v1::StepResult& result) { result.mutable_results(1)->set_token_id(0xffffffff); }},
  };
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.message);
    SchedulerDriver driver(SmallSteps());
    driver.FormGroup(OneWorker(100));
    Request request = MakeRequest("a", 4, 3);
    request.sampling.set_logprobs(0);
    request.sampling.set_prompt_logprobs(0);
    const auto sink = driver.Submit(request);
    ASSERT_TRUE(driver.Send().has_value());
    ASSERT_TRUE(driver.group().Execute(0).ok());
    v1::StepResult result = driver.group().TakeResult(0);
    bad.spoil(result);
    const absl::Status status = driver.scheduler().OnStepResult(0, result, driver.now());
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    // The server abandons the group; the request goes on with the next.
    driver.LoseGroup();
    driver.FormGroup(OneWorker(100));
    driver.RunToEnd();
    EXPECT_TRUE(sink->done()->ok());
  }
}

TEST(SchedulerRequestsTest, RefusesResultsThatNothingWasSentFor) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  v1::StepResult result;
  result.set_group_epoch(1);
  result.set_step_id(1);
  EXPECT_EQ(driver.scheduler().OnStepResult(0, result, driver.now()).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(driver.scheduler().OnStepResult(1, result, driver.now()).code(),
            absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
