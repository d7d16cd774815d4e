// What a Step has: chunks, decode tokens, forks, scores.

#include <algorithm>
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

TEST(SchedulerStepsTest, FeedsAPromptInChunksAndSamplesAfterItsLastTokenOnly) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, QueuesChunksAndDecodesBeforeResultsAreKnown) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, TakesADecodeTokenOfEverySequenceBeforePromptChunks) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(1000));
  for (const char* id : {"a", "b", "c"}) driver.Submit(MakeRequest(id, 4, 100));
  driver.SendAndAnswer();
  driver.Submit(MakeRequest("long", 500, 1));
  for (int i = 0; i < 10; ++i) {
    const v1::Step step = driver.SendAndAnswer();
    EXPECT_EQ(NumDecodes(step), 3);
    EXPECT_EQ(NumPromptRows(step), 8) << "mixed_prompt_tokens";
  }
}

TEST(SchedulerStepsTest, FillsTheStepWithPromptsWhenNothingDecodes) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(1000));
  driver.Submit(MakeRequest("a", 20, 5));
  driver.Submit(MakeRequest("b", 20, 5));
  const v1::Step step = driver.SendAndAnswer();
  ASSERT_EQ(step.work_size(), 2);
  EXPECT_EQ(step.work(0).token_ids_size(), 20);
  EXPECT_EQ(step.work(1).token_ids_size(), 12);
}

TEST(SchedulerStepsTest, QueuesNoWorkBeyondMaxTokens) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, DropsTokensInFlightAfterAStop) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 4, 100), /*stop_after=*/3);
  driver.RunToEnd();
  EXPECT_THAT(sink->choice(0).tokens, ::testing::SizeIs(3));
  EXPECT_EQ(sink->choice(0).reason, v1::FINISH_REASON_STOP);
  EXPECT_TRUE(sink->done()->ok());
  EXPECT_EQ(driver.scheduler().counts().generated_tokens, 3);
}

TEST(SchedulerStepsTest, DealsDecodesOutToTheStagesOfAPipeline) {
  std::vector<WorkerCapacity> stages;
  for (uint32_t stage = 0; stage < 3; ++stage) {
    stages.push_back(OneWorker(100)[0]);
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

TEST(SchedulerStepsTest, TellsTheWorkerHowToSample) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, PrefillsOnceForAllChoicesAndForksThem) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, RefusesTokensOfTheWrongChoice) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, ForksNothingWhenTheFirstTokenIsTheLast) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  Request request = MakeRequest("a", 20, 1);
  request.num_choices = 4;
  const auto sink = driver.Submit(request);
  driver.SendAndAnswer();
  EXPECT_TRUE(sink->done()->ok());
  const v1::Step frees = driver.SendAndAnswer();
  EXPECT_EQ(frees.forks_size(), 0);
  EXPECT_EQ(driver.group().worker(0).num_free_pages(), 100);
}

TEST(SchedulerStepsTest, ForksFromAChoiceThatHasEnded) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, FeedsForcedTokensInChunksAndDeliversTheirLogProbs) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, ScoresEveryPromptTokenButTheFirst) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
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

TEST(SchedulerStepsTest, AnAnswerEndsWhenEveryWorkerHasToldWhatItHolds) {
  for (uint32_t last : {0, 1}) {
    SchedulerDriver driver(SmallSteps());
    std::vector<WorkerCapacity> stages = {OneWorker(100)[0], OneWorker(100)[0]};
    stages[1].stage = 1;
    driver.FormGroup(stages);
    // The second token's row begins a page.
    const auto sink = driver.Submit(MakeRequest("a", 16, 2));
    driver.SendAndAnswer();
    EXPECT_THAT(sink->choice(0).tokens, ::testing::SizeIs(1));
    ASSERT_TRUE(driver.Send().has_value());
    for (uint32_t w : {1 - last, last}) {
      EXPECT_FALSE(sink->done().has_value());
      EXPECT_THAT(sink->choice(0).tokens, ::testing::SizeIs(1));
      ASSERT_TRUE(driver.group().Execute(w).ok());
      ASSERT_TRUE(
          driver.scheduler().OnStepResult(w, driver.group().TakeResult(w), driver.now()).ok());
    }
    ASSERT_TRUE(sink->done().has_value());
    EXPECT_EQ(sink->usage().kv_bytes(), 2 * 2 * 1600);
  }
}

TEST(SchedulerStepsTest, AGroupThatIsToBeGivenUpEndsWhatRunsAndStartsNothing) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto running = driver.Submit(MakeRequest("running", 16, 5));
  driver.SendAndAnswer();
  driver.scheduler().HoldStarts();
  const auto waiting = driver.Submit(MakeRequest("waiting", 16, 5));
  driver.RunToEnd();
  ASSERT_TRUE(running->done().has_value());
  EXPECT_TRUE(running->done()->ok());
  EXPECT_FALSE(waiting->done().has_value());
  EXPECT_EQ(driver.scheduler().counts().num_running, 0u);
  driver.LoseGroup();
  driver.FormGroup(OneWorker(100));
  driver.RunToEnd();
  ASSERT_TRUE(waiting->done().has_value());
  EXPECT_TRUE(waiting->done()->ok());
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
