#include "coordinator/scheduler/scheduler.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Request MakeRequest(std::string id, uint32_t prompt_tokens, uint32_t max_tokens) {
  return SchedulerDriver::MakeRequest(std::move(id), prompt_tokens, max_tokens);
}

int NumPromptRows(const v1::Step& step) {
  int rows = 0;
  for (const v1::SequenceWork& work : step.work()) {
    if (work.is_prompt()) rows += work.token_ids_size();
  }
  return rows;
}

int NumDecodes(const v1::Step& step) {
  return static_cast<int>(std::count_if(step.work().begin(), step.work().end(),
                                        [](const auto& work) { return work.token_ids().empty(); }));
}

SchedulerOptions SmallSteps() {
  SchedulerOptions options;
  options.step_tokens = 32;
  options.mixed_prompt_tokens = 8;
  options.max_running_sequences = 16;
  return options;
}

// ---- Steps ----

TEST(SchedulerTest, FeedsAPromptInChunksAndSamplesAfterItsLastTokenOnly) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 70, 3));
  const v1::Step first = driver.SendAndAnswer();
  ASSERT_EQ(first.starts_size(), 1);
  EXPECT_EQ(first.starts(0).prompt_tokens(), 70);
  ASSERT_EQ(first.work_size(), 1);
  EXPECT_EQ(first.work(0).token_ids_size(), 32);
  EXPECT_TRUE(first.work(0).is_prompt());
  EXPECT_FALSE(first.work(0).sample());
  const v1::Step second = driver.SendAndAnswer();
  EXPECT_EQ(second.starts_size(), 0);
  EXPECT_EQ(second.work(0).first_position(), 32);
  EXPECT_FALSE(second.work(0).sample());
  const v1::Step third = driver.SendAndAnswer();
  EXPECT_EQ(third.work(0).token_ids_size(), 6);
  EXPECT_TRUE(third.work(0).sample());
  EXPECT_THAT(sink->choice(0).tokens, ::testing::SizeIs(1));
}

TEST(SchedulerTest, QueuesChunksAndDecodesBeforeResultsAreKnown) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.Submit(MakeRequest("a", 64, 9));
  ASSERT_TRUE(driver.Send().has_value());
  const auto second = driver.Send();
  ASSERT_TRUE(second.has_value());
  EXPECT_TRUE(second->work(0).sample());
  EXPECT_FALSE(driver.Send().has_value()) << "two are in flight";
  driver.Answer();
  const auto third = driver.Send();
  ASSERT_TRUE(third.has_value());
  EXPECT_THAT(third->work(0).token_ids(), IsEmpty());
  EXPECT_FALSE(third->work(0).is_prompt());
  EXPECT_EQ(third->work(0).first_position(), 64);
}

TEST(SchedulerTest, TakesADecodeTokenOfEverySequenceBeforePromptChunks) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(1000));
  for (const char* id : {"a", "b", "c"}) driver.Submit(MakeRequest(id, 4, 100));
  driver.SendAndAnswer();
  driver.Submit(MakeRequest("long", 500, 1));
  for (int i = 0; i < 10; ++i) {
    const v1::Step step = driver.SendAndAnswer();
    EXPECT_EQ(NumDecodes(step), 3);
    EXPECT_EQ(NumPromptRows(step), 8) << "mixed_prompt_tokens";
  }
}

TEST(SchedulerTest, FillsTheStepWithPromptsWhenNothingDecodes) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(1000));
  driver.Submit(MakeRequest("a", 20, 5));
  driver.Submit(MakeRequest("b", 20, 5));
  const v1::Step step = driver.SendAndAnswer();
  ASSERT_EQ(step.work_size(), 2);
  EXPECT_EQ(step.work(0).token_ids_size(), 20);
  EXPECT_EQ(step.work(1).token_ids_size(), 12);
}

TEST(SchedulerTest, QueuesNoWorkBeyondMaxTokens) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 4, 2));
  ASSERT_TRUE(driver.Send().has_value());
  ASSERT_TRUE(driver.Send().has_value());
  driver.Answer();
  EXPECT_FALSE(driver.Send().has_value());
  driver.Answer();
  EXPECT_EQ(sink->choice(0).reason, v1::FINISH_REASON_LENGTH);
  const v1::Step frees = driver.SendAndAnswer();
  EXPECT_EQ(frees.freed_sequence_ids_size(), 1);
  EXPECT_EQ(frees.work_size(), 0);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 100);
}

TEST(SchedulerTest, DropsTokensInFlightAfterAStop) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 4, 100), /*stop_after=*/3);
  driver.RunToEnd();
  EXPECT_THAT(sink->choice(0).tokens, ::testing::SizeIs(3));
  EXPECT_EQ(sink->choice(0).reason, v1::FINISH_REASON_STOP);
  EXPECT_TRUE(sink->done()->ok());
  EXPECT_EQ(driver.scheduler().counts().generated_tokens, 3);
}

TEST(SchedulerTest, DealsDecodesOutToTheStagesOfAPipeline) {
  std::vector<WorkerCapacity> stages;
  for (uint32_t stage = 0; stage < 3; ++stage) {
    stages.push_back(SchedulerDriver::OneWorker(100)[0]);
    stages.back().stage = stage;
  }
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(stages);
  for (const char* id : {"a", "b", "c", "d", "e", "f"}) driver.Submit(MakeRequest(id, 4, 50));
  driver.SendAndAnswer();
  std::vector<uint64_t> sequences;
  for (int i = 0; i < 3; ++i) {  // all in flight at a time
    const auto step = driver.Send();
    ASSERT_TRUE(step.has_value());
    EXPECT_EQ(NumDecodes(*step), 2);
    for (const v1::SequenceWork& work : step->work()) sequences.push_back(work.sequence_id());
  }
  EXPECT_THAT(sequences, ::testing::UnorderedElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(SchedulerTest, TellsTheWorkerHowToSample) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 4, 9);
  request.sampling.set_temperature(0.5);
  request.sampling.set_seed(77);
  request.sampling.set_min_tokens(2);
  request.stop_token_ids = {5, 6};
  request.cache.set_policy("full");
  driver.Submit(request);
  const v1::Step step = driver.SendAndAnswer();
  const v1::SequenceStart& start = step.starts(0);
  EXPECT_EQ(start.sampling().temperature(), 0.5);
  EXPECT_EQ(start.sampling().seed(), 77);
  EXPECT_EQ(start.sampling().min_tokens(), 2);
  EXPECT_THAT(start.sampling().stop_token_ids(), ElementsAre(5, 6));
  EXPECT_EQ(start.cache().policy(), "full");
}

// ---- Admission and preemption ----

TEST(SchedulerTest, LetsNobodyOvertakeARequestThatWaitsForPages) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(10));
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

TEST(SchedulerTest, RunsHigherPrioritiesFirst) {
  SchedulerOptions options = SmallSteps();
  options.max_running_sequences = 1;
  SchedulerDriver driver(options);
  const auto low = driver.Submit(MakeRequest("low", 4, 3));
  Request urgent = MakeRequest("urgent", 4, 3);
  urgent.priority = 5;
  const auto high = driver.Submit(urgent);
  driver.FormGroup(SchedulerDriver::OneWorker(10));
  while (!high->done().has_value()) driver.SendAndAnswer();
  EXPECT_THAT(low->choices(), IsEmpty());
  driver.RunToEnd();
  EXPECT_TRUE(low->done()->ok());
}

TEST(SchedulerTest, FeedsAnUrgentPromptBeforeTheRestOfAnother) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
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

TEST(SchedulerTest, PreemptsTheLowestInRankAndReplaysIt) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(5));
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

TEST(SchedulerTest, PreemptsLowPrioritiesBeforeLateArrivals) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(5));
  const auto early = driver.Submit(MakeRequest("early", 20, 40));
  Request urgent = MakeRequest("late but urgent", 20, 40);
  urgent.priority = 1;
  const auto late = driver.Submit(urgent);
  driver.RunToEnd();
  EXPECT_EQ(late->usage().preemptions(), 0);
  EXPECT_GT(early->usage().preemptions(), 0);
  EXPECT_TRUE(early->done()->ok());
}

TEST(SchedulerTest, FinishesAPreemptedRequestByAResultFromBefore) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(5));
  driver.Submit(MakeRequest("first", 20, 40));
  // Its 14th token needs no third page; the token after it would.
  const auto second = driver.Submit(MakeRequest("second", 20, 13));
  driver.RunToEnd();
  EXPECT_EQ(second->usage().preemptions() + second->choice(0).tokens.size(), 13u);
  EXPECT_TRUE(second->done()->ok());
}

TEST(SchedulerTest, RefusesAtOnceWhatCanNeverFit) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(4));
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

TEST(SchedulerTest, EndsWaitingRequestsThatDoNotFitTheGroupThatForms) {
  SchedulerDriver driver(SmallSteps());
  const auto sink = driver.Submit(MakeRequest("a", 100, 1));
  EXPECT_TRUE(driver.last_status().ok());
  driver.FormGroup(SchedulerDriver::OneWorker(4));
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(driver.Send().has_value());
}

TEST(SchedulerTest, EndsARequestThatOutgrowsThePool) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(4));
  const auto sink = driver.Submit(MakeRequest("a", 20, 1000));
  const auto next = driver.Submit(MakeRequest("b", 20, 3));
  driver.RunToEnd();
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(sink->choice(0).tokens.size(), 64 - 20 + 1) << "all that the pool can hold";
  EXPECT_TRUE(next->done()->ok());
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 4);
}

TEST(SchedulerTest, EndsARequestWhoseReplayNeedsMoreThanThePool) {
  // Under a sliding window a decode holds two pages at most, a chunk as many as it has tokens.
  SchedulerOptions options = SmallSteps();
  options.step_tokens = 64;
  SchedulerDriver driver(options);
  std::vector<WorkerCapacity> worker = SchedulerDriver::OneWorker(3);
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

TEST(SchedulerTest, BoundsTheQueue) {
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
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.RunToEnd();
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 0);
}

TEST(SchedulerTest, RefusesBadRequests) {
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

// ---- The ends of requests ----

TEST(SchedulerTest, FreesACancelledRequestByTheNextStep) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
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

TEST(SchedulerTest, SendsAStepOfFreesOnlyWhenThereIsNothingElse) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.Submit(MakeRequest("a", 40, 100));
  driver.SendAndAnswer();
  driver.scheduler().Cancel("a", absl::CancelledError(""), driver.now());
  const v1::Step step = driver.SendAndAnswer();
  EXPECT_EQ(step.work_size(), 0);
  EXPECT_THAT(step.freed_sequence_ids(), ElementsAre(1));
  EXPECT_THAT(driver.scheduler().free_pages(), ElementsAre(100));
  EXPECT_FALSE(driver.Send().has_value());
}

TEST(SchedulerTest, EndsRequestsAtTheirDeadlines) {
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

TEST(SchedulerTest, ReportsUsage) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
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

TEST(SchedulerTest, CountsRequestsAndTokens) {
  SchedulerDriver driver(SmallSteps());
  driver.Submit(MakeRequest("a", 4, 3));
  driver.Submit(MakeRequest("b", 50, 3));
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 2);
  EXPECT_EQ(driver.scheduler().counts().waiting_prompt_tokens, 54);
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.SendAndAnswer();
  EXPECT_EQ(driver.scheduler().counts().num_waiting, 0);
  EXPECT_EQ(driver.scheduler().counts().num_running, 2);
  driver.RunToEnd();
  const SchedulerCounts counts = driver.scheduler().counts();
  EXPECT_EQ(counts.num_running, 0);
  EXPECT_EQ(counts.generated_tokens, 6);
  EXPECT_EQ(counts.prompt_tokens, 54);
}

// ---- Groups ----

TEST(SchedulerTest, ReplaysOnTheNextGroupWithoutDeliveringTwice) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  const Request request = MakeRequest("a", 20, 12);
  const auto sink = driver.Submit(request);
  for (int i = 0; i < 5; ++i) driver.SendAndAnswer();
  ASSERT_TRUE(driver.Send().has_value());  // lost on the way
  driver.LoseGroup();
  EXPECT_FALSE(driver.scheduler().NextStep(driver.now()).has_value());
  EXPECT_THAT(driver.scheduler().free_pages(), IsEmpty());
  EXPECT_EQ(sink->choice(0).tokens.size(), 5);
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, RunAlone(request, 0, {}, 0).tokens);
  EXPECT_EQ(sink->usage().preemptions(), 0) << "losing a group is no preemption";
}

TEST(SchedulerTest, IgnoresResultsOfOlderGroups) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  driver.Submit(MakeRequest("a", 20, 12));
  ASSERT_TRUE(driver.Send().has_value());
  ASSERT_TRUE(driver.group().Execute(0).ok());
  const v1::StepResult late = driver.group().TakeResult(0);
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  EXPECT_TRUE(driver.scheduler().OnStepResult(0, late, driver.now()).ok());
  driver.LoseGroup();
  EXPECT_TRUE(driver.scheduler().OnStepResult(0, late, driver.now()).ok());
}

// A result that does not fit what was sent: each case spoils one field of a good one.
TEST(SchedulerTest, RefusesResultsThatDoNotMatchTheStep) {
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
    driver.FormGroup(SchedulerDriver::OneWorker(100));
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
    driver.FormGroup(SchedulerDriver::OneWorker(100));
    driver.RunToEnd();
    EXPECT_TRUE(sink->done()->ok());
  }
}

TEST(SchedulerTest, RefusesResultsThatNothingWasSentFor) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  v1::StepResult result;
  result.set_group_epoch(1);
  result.set_step_id(1);
  EXPECT_EQ(driver.scheduler().OnStepResult(0, result, driver.now()).code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(driver.scheduler().OnStepResult(1, result, driver.now()).code(),
            absl::StatusCode::kInternal);
}

// ---- Several choices ----

TEST(SchedulerTest, PrefillsOnceForAllChoicesAndForksThem) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 40, 6);
  request.num_choices = 3;
  const auto sink = driver.Submit(request);
  driver.SendAndAnswer();
  const v1::Step last_chunk = driver.SendAndAnswer();
  ASSERT_EQ(last_chunk.work_size(), 1);
  EXPECT_TRUE(last_chunk.work(0).sample());
  EXPECT_EQ(last_chunk.work(0).num_choices(), 3);
  for (uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(sink->choice(choice).tokens.size(), 1);
  }
  const v1::Step forks = driver.SendAndAnswer();
  ASSERT_EQ(forks.forks_size(), 2);
  EXPECT_EQ(forks.forks(0).parent_sequence_id(), 1);
  EXPECT_EQ(forks.forks(0).child().sampling().choice(), 1);
  EXPECT_EQ(forks.forks(1).child().sampling().choice(), 2);
  EXPECT_EQ(NumDecodes(forks), 3);
  EXPECT_EQ(100 - driver.group().worker(0).num_free_pages(), 2 + 3) << "two pages are shared";
  driver.RunToEnd();
  for (uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(sink->choice(choice).tokens, RunAlone(request, choice, {}, 0).tokens);
  }
  EXPECT_EQ(sink->usage().completion_tokens(), 18);
  EXPECT_EQ(sink->usage().kv_bytes(), (2 + 3) * 1600);
}

TEST(SchedulerTest, RefusesTokensOfTheWrongChoice) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 20, 5);
  request.num_choices = 2;
  driver.Submit(request);
  ASSERT_TRUE(driver.Send().has_value());
  ASSERT_TRUE(driver.group().Execute(0).ok());
  v1::StepResult result = driver.group().TakeResult(0);
  result.mutable_results(1)->set_choice(0);
  const absl::Status status = driver.scheduler().OnStepResult(0, result, driver.now());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("choice 0, expected 1"));
}

TEST(SchedulerTest, ForksNothingWhenTheFirstTokenIsTheLast) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 20, 1);
  request.num_choices = 4;
  const auto sink = driver.Submit(request);
  driver.SendAndAnswer();
  EXPECT_TRUE(sink->done()->ok());
  const v1::Step frees = driver.SendAndAnswer();
  EXPECT_EQ(frees.forks_size(), 0);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 100);
}

TEST(SchedulerTest, ForksFromAChoiceThatHasEnded) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 20, 5);
  request.num_choices = 2;
  request.stop_token_ids = {RunAlone(request, 0, {}, 0).tokens[0]};
  ASSERT_NE(RunAlone(request, 1, {}, 0).tokens[0], request.stop_token_ids[0]);
  const auto sink = driver.Submit(request);
  driver.SendAndAnswer();
  EXPECT_EQ(sink->choice(0).reason, v1::FINISH_REASON_STOP);
  const v1::Step fork = driver.SendAndAnswer();
  EXPECT_EQ(fork.forks_size(), 1);
  EXPECT_THAT(fork.freed_sequence_ids(), IsEmpty());
  const v1::Step next = driver.SendAndAnswer();
  EXPECT_THAT(next.freed_sequence_ids(), ElementsAre(1));
  driver.RunToEnd();
  EXPECT_EQ(sink->choice(1).tokens, RunAlone(request, 1, {}, 0).tokens);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 100);
}

// ---- Scores ----

TEST(SchedulerTest, FeedsForcedTokensInChunksAndDeliversTheirLogProbs) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 20, 1);
  for (int32_t i = 0; i < 40; ++i) request.forced_tokens.push_back(100 + i);
  const auto sink = driver.Submit(request);
  const v1::Step prompt = driver.SendAndAnswer();
  EXPECT_FALSE(prompt.work(0).score_tokens()) << "nobody wants the prompt's";
  EXPECT_EQ(prompt.work(0).next_token_id(), 100);
  EXPECT_FALSE(prompt.work(0).sample());
  EXPECT_THAT(sink->choice(0).tokens, ElementsAre(100));
  const v1::Step chunk = driver.SendAndAnswer();
  EXPECT_FALSE(chunk.work(0).is_prompt());
  EXPECT_TRUE(chunk.work(0).score_tokens());
  EXPECT_EQ(chunk.work(0).token_ids_size(), 32);
  EXPECT_EQ(chunk.work(0).next_token_id(), 132);
  const v1::Step rest = driver.SendAndAnswer();
  EXPECT_EQ(rest.work(0).token_ids_size(), 7) << "the last one is scored, not fed";
  EXPECT_EQ(rest.work(0).next_token_id(), 139);
  EXPECT_EQ(sink->choice(0).tokens, request.forced_tokens);
  EXPECT_EQ(sink->choice(0).logprobs.size(), 40);
  EXPECT_EQ(sink->choice(0).reason, v1::FINISH_REASON_FORCED);
  EXPECT_TRUE(sink->done()->ok());
}

TEST(SchedulerTest, ScoresEveryPromptTokenButTheFirst) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 40, 1);
  request.sampling.set_prompt_logprobs(2);
  const auto sink = driver.Submit(request);
  const v1::Step first = driver.SendAndAnswer();
  EXPECT_TRUE(first.work(0).score_tokens());
  EXPECT_EQ(first.work(0).next_token_id(), 32);
  const v1::Step last = driver.SendAndAnswer();
  EXPECT_TRUE(last.work(0).score_tokens());
  EXPECT_FALSE(last.work(0).has_next_token_id());
  ASSERT_EQ(sink->prompt_logprobs().size(), 39);
  EXPECT_EQ(sink->prompt_logprobs()[0].chosen().token_id(), 1);
  EXPECT_EQ(sink->prompt_logprobs()[38].chosen().token_id(), 39);
  EXPECT_EQ(sink->prompt_logprobs()[38].top_size(), 2);
}

// ---- Eviction ----

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

TEST(SchedulerTest, OrdersTheEvictionWithThePromptsLastChunk) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(SchedulerDriver::OneWorker(5));
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

TEST(SchedulerTest, CountsTheBytesThatAnEvictionKept) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 64, 3);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  driver.RunToEnd();
  EXPECT_EQ(sink->usage().logical_kv_bytes(), (32 + 2) * 100);
  EXPECT_EQ(sink->usage().kv_bytes(), 3 * 1600);
}

TEST(SchedulerTest, RefusesAResultWithoutThePagesOfAnEviction) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(SchedulerDriver::OneWorker(100));
  Request request = MakeRequest("a", 20, 3);
  request.cache.set_policy("half");
  driver.Submit(request);
  ASSERT_TRUE(driver.Send().has_value());
  ASSERT_TRUE(driver.group().Execute(0).ok());
  v1::StepResult result = driver.group().TakeResult(0);
  result.clear_changed_pages();
  const absl::Status status = driver.scheduler().OnStepResult(0, result, driver.now());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("0 evicted sequences, expected 1"));
}

// Both replays have more tokens than room: neither could go on if the later one did not step back.
TEST(SchedulerTest, LetsOneOfTwoReplaysThatWaitForEachOtherGoFirst) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(SchedulerDriver::OneWorker(40));
  std::vector<Request> requests = {MakeRequest("a", 20, 80), MakeRequest("b", 20, 80)};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (Request& request : requests) {
    request.cache.set_policy("half");
    sinks.push_back(driver.Submit(request));
  }
  while (sinks[1]->choice(0).tokens.size() < 75) driver.SendAndAnswer();
  driver.LoseGroup();
  driver.FormGroup(SchedulerDriver::OneWorker(6));
  driver.RunToEnd();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(sinks[i]->done().has_value());
    EXPECT_TRUE(sinks[i]->done()->ok()) << *sinks[i]->done();
    EXPECT_EQ(sinks[i]->choice(0).tokens, RunAlone(requests[i], 0, {10}, 0).tokens);
  }
  EXPECT_EQ(sinks[1]->usage().preemptions(), 1);
}

TEST(SchedulerTest, EndsAReplayThatHasOutgrownASmallerGroup) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  driver.FormGroup(SchedulerDriver::OneWorker(40));
  Request request = MakeRequest("a", 20, 80);
  request.cache.set_policy("half");
  const auto sink = driver.Submit(request);
  while (sink->choice(0).tokens.size() < 75) driver.SendAndAnswer();
  driver.LoseGroup();
  driver.FormGroup(SchedulerDriver::OneWorker(4));
  driver.RunToEnd();
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->done()->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 4);
}

TEST(SchedulerTest, PassesOnWhatTheAllocatorRefuses) {
  SchedulerDriver driver(SmallSteps(), std::make_shared<HalfAllocator>());
  Request request = MakeRequest("a", 64, 60);
  request.cache.set_policy("third");
  driver.Submit(request);
  EXPECT_EQ(driver.last_status(), absl::InvalidArgumentError("cache.policy: third"));
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
