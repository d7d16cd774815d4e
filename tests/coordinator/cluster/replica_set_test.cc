#include "coordinator/cluster/replica_set.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/replica_set_fixture.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ReplicaSetTest : public ReplicaSetFixture {};

TEST_F(ReplicaSetTest, FormsWhenEnoughWorkersAreAttachedAndIsReadyWhenAllAre) {
  MakeGroup({.num_ranks = 2, .num_stages = 2});
  std::vector<uint64_t> workers;
  for (const char* name : {"a", "b", "c"}) workers.push_back(Attach(name));
  for (uint64_t id : workers) EXPECT_THAT(links_[id]->sent, IsEmpty());
  workers.push_back(Attach("d"));
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_THAT(links_[workers[i]]->sent, SizeIs(1));
    const v1::FormGroup& form = LastSent(workers[i]).form_group();
    EXPECT_EQ(form.group_epoch(), 1);
    EXPECT_EQ(form.placement().stage(), i / 2);
    EXPECT_EQ(form.placement().rank(), i % 2);
    EXPECT_EQ(form.sentence_end_bits(), "bits");
    EXPECT_THAT(form.comm_addresses(),
                ElementsAre("address of a", "address of b", "address of c", "address of d"));
  }
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_FALSE(scheduler_.group.has_value());
    SayReady(workers[3 - i]);
  }
  ASSERT_TRUE(scheduler_.group.has_value());
  EXPECT_EQ(scheduler_.group->epoch, 1);
  ASSERT_THAT(scheduler_.group->workers, SizeIs(4));
  EXPECT_EQ(scheduler_.group->workers[3].stage, 1);
  EXPECT_EQ(scheduler_.group->workers[0].num_kv_heads, 3);
  EXPECT_THAT(scheduler_.group->workers[0].sliding_windows, ElementsAre(0, 512, 0));
  EXPECT_THAT(scheduler_.group->workers[2].sliding_windows, ElementsAre(512, 0));
  EXPECT_THAT(ready_changes_, ElementsAre(true));
}

TEST_F(ReplicaSetTest, RefusesAnotherVersionAnotherModelAndADoubleName) {
  MakeGroup({});
  v1::WorkerMessage registration = Registration("a");
  registration.mutable_register_()->set_version("0.9");
  const uint64_t old = Connect();
  Say(old, registration);
  EXPECT_EQ(links_[old]->closed->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(links_[old]->closed->ToString(), HasSubstr("0.9, the coordinator is 1.0"));

  registration = Registration("a");
  registration.mutable_register_()->set_model_fingerprint("other");
  const uint64_t other = Connect();
  Say(other, registration);
  EXPECT_EQ(links_[other]->closed->code(), absl::StatusCode::kFailedPrecondition);

  Attach("a");
  const uint64_t twin = Attach("a");
  EXPECT_EQ(links_[twin]->closed->code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(ReplicaSetTest, RefusesMessagesOutOfOrder) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t eager = Connect();
  SayHeartbeat(eager, false, 0);
  EXPECT_EQ(links_[eager]->closed->code(), absl::StatusCode::kInvalidArgument);

  const uint64_t twice = Attach("a");
  Say(twice, Registration("a"));
  EXPECT_EQ(links_[twice]->closed->code(), absl::StatusCode::kInvalidArgument);

  const uint64_t empty = Attach("b");
  Say(empty, v1::WorkerMessage());
  EXPECT_EQ(links_[empty]->closed->code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReplicaSetTest, RefusesAWorkerThatTakesSmallerSteps) {
  MakeGroup({});
  const uint64_t id = Attach("a");
  SayReady(id, /*max_step_tokens=*/127);
  EXPECT_EQ(links_[id]->closed->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(links_[id]->closed->ToString(), HasSubstr("127"));
  EXPECT_FALSE(scheduler_.group.has_value());
}

TEST_F(ReplicaSetTest, ABrokenStreamAbortsTheOthersAndASpareTakesThePlace) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  const uint64_t spare = Attach("spare");
  SayReady(a);
  SayReady(b);
  EXPECT_THAT(links_[spare]->sent, IsEmpty());
  set_->OnDetach(a, now_);
  EXPECT_EQ(scheduler_.num_lost, 1);
  EXPECT_THAT(ready_changes_, ElementsAre(true, false));
  EXPECT_THAT(LastSent(b).abort_group().reason(), HasSubstr("worker a"));
  EXPECT_THAT(links_[spare]->sent, IsEmpty()) << "b may still be at work for group 1";
  EXPECT_EQ(set_->Statuses(now_)[0].state(), "aborting");
  SayAborted(b, "new address of b");
  for (uint64_t id : {spare, b}) {
    const v1::FormGroup& form = LastSent(id).form_group();
    EXPECT_EQ(form.group_epoch(), 2);
    EXPECT_EQ(form.placement().stage(), id == b ? 1 : 0) << "b has the weights of stage 1";
    EXPECT_THAT(form.comm_addresses(), ElementsAre("address of spare", "new address of b"));
  }
  SayReady(b);
  SayReady(spare);
  EXPECT_EQ(scheduler_.group->epoch, 2);
}

TEST_F(ReplicaSetTest, AWorkerThatNeverAnswersAbortGroupIsLost) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  set_->OnDetach(a, now_);
  Attach("c");
  EXPECT_TRUE(LastSent(b).has_abort_group());
  Attach("d");  // c and d are enough
  EXPECT_EQ(set_->Statuses(now_)[1].state(), "loading");
  PassTime(absl::Seconds(10));
  EXPECT_EQ(links_[b]->closed->code(), absl::StatusCode::kUnavailable);
}

TEST_F(ReplicaSetTest, RefusesGroupAbortedWithoutAnAbort) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  SayReady(b);
  SayAborted(a);
  EXPECT_EQ(links_[a]->closed->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(LastSent(b).has_abort_group());
  SayAborted(b);
  SayAborted(b);
  EXPECT_TRUE(links_[b]->closed.has_value());
}

TEST_F(ReplicaSetTest, AWorkerThatLeavesMayStillAnswerAbortGroup) {
  MakeGroup({});
  const uint64_t a = Attach("a");
  v1::WorkerMessage leaving;
  leaving.mutable_leaving();
  Say(a, leaving);
  SayAborted(a);
  EXPECT_TRUE(links_[a]->closed->ok());
  EXPECT_EQ(LastEpoch(a), 1u) << "it is in no further group";
}

TEST_F(ReplicaSetTest, ALossWhileLoadingNeedsNoWordToTheScheduler) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  set_->OnDetach(b, now_);
  EXPECT_TRUE(LastSent(a).has_abort_group());
  EXPECT_EQ(scheduler_.num_lost, 0);
  EXPECT_THAT(ready_changes_, IsEmpty());
}

TEST_F(ReplicaSetTest, IgnoresWhatBelongsToAnOlderGroup) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  set_->OnDetach(b, now_);
  SayAborted(a);
  Attach("c");  // group 2
  v1::WorkerMessage stale;
  stale.mutable_group_ready()->set_group_epoch(1);
  Say(a, stale);
  stale.mutable_step_result()->set_group_epoch(1);
  Say(a, stale);
  SayError(a, 1);
  EXPECT_FALSE(links_[a]->closed.has_value());
  EXPECT_THAT(scheduler_.result_workers, IsEmpty());
  EXPECT_TRUE(LastSent(a).has_form_group());
}

TEST_F(ReplicaSetTest, HandsResultsToTheSchedulerByPlaceInTheGroup) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  SayReady(b);
  v1::WorkerMessage result;
  result.mutable_step_result()->set_group_epoch(1);
  result.mutable_step_result()->set_execute_ms(2.5);
  Say(b, result);
  Say(a, result);
  EXPECT_THAT(scheduler_.result_workers, ElementsAre(1, 0));
  EXPECT_EQ(set_->Statuses(now_)[0].last_step_ms(), 2.5);
  EXPECT_EQ(set_->Statuses(now_)[0].free_pages(), 7 + 2) << "what is cached is free";
  EXPECT_EQ(set_->Statuses(now_)[0].cached_pages(), 2);
}

TEST_F(ReplicaSetTest, SendsStepsOfItsEpochToAllWorkers) {
  MakeGroup({.num_ranks = 2, .num_stages = 1});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  v1::Step step;
  step.set_group_epoch(1);
  set_->group(0).SendStep(step);  // not ready yet
  SayReady(b);
  step.set_step_id(5);
  set_->group(0).SendStep(step);
  step.set_group_epoch(2);
  set_->group(0).SendStep(step);
  for (uint64_t id : {a, b}) {
    ASSERT_THAT(links_[id]->sent, SizeIs(2));
    EXPECT_EQ(LastSent(id).step().step_id(), 5);
  }
}

TEST_F(ReplicaSetTest, AWorkerErrorBreaksTheGroupAndPutsTheNextOneOffLongerAndLonger) {
  MakeGroup({}, /*heartbeat_timeout=*/absl::Hours(1));
  const uint64_t a = Attach("a");
  absl::Duration last = absl::ZeroDuration();
  for (uint64_t epoch = 1; epoch <= 12; ++epoch) {
    ASSERT_EQ(LastEpoch(a), epoch);
    SayReady(a);
    SayError(a, epoch);
    EXPECT_TRUE(LastSent(a).has_abort_group());
    EXPECT_FALSE(scheduler_.group.has_value());
    SayAborted(a);
    const absl::Duration delay = set_->NextTimeout() - now_;
    EXPECT_GE(delay, last);
    EXPECT_LE(delay, absl::Seconds(30));
    last = delay;
    PassTime(delay - absl::Milliseconds(1));
    EXPECT_EQ(LastEpoch(a), epoch);
    PassTime(absl::Milliseconds(1));
  }
  EXPECT_EQ(last, absl::Seconds(30));
}

TEST_F(ReplicaSetTest, AGoodResultEndsTheDelays) {
  MakeGroup({}, /*heartbeat_timeout=*/absl::Hours(1));
  const uint64_t a = Attach("a");
  SayReady(a);
  SayError(a, 1);
  SayAborted(a);
  const absl::Duration first = set_->NextTimeout() - now_;
  PassTime(first);
  SayReady(a);
  v1::WorkerMessage result;
  result.mutable_step_result()->set_group_epoch(2);
  Say(a, result);
  SayError(a, 2);
  SayAborted(a);
  EXPECT_EQ(set_->NextTimeout() - now_, first);
}

TEST_F(ReplicaSetTest, AResultThatTheSchedulerRefusesBreaksTheGroup) {
  MakeGroup({});
  const uint64_t a = Attach("a");
  SayReady(a);
  scheduler_.result_status = absl::InternalError("no such sequence");
  v1::WorkerMessage result;
  result.mutable_step_result()->set_group_epoch(1);
  Say(a, result);
  EXPECT_THAT(LastSent(a).abort_group().reason(), HasSubstr("no such sequence"));
  EXPECT_EQ(scheduler_.num_lost, 1);
}

TEST_F(ReplicaSetTest, AnIdleWorkerLivesByItsHeartbeats) {
  MakeGroup({});
  const uint64_t a = Attach("a");
  SayReady(a);
  for (int i = 0; i < 10; ++i) {
    PassTime(absl::Seconds(9));
    SayHeartbeat(a, false, 0);
  }
  EXPECT_TRUE(scheduler_.group.has_value());
  PassTime(absl::Seconds(10));
  EXPECT_EQ(links_[a]->closed->code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(scheduler_.group.has_value());
  EXPECT_EQ(set_->Statuses(now_)[0].state(), "lost");
}

TEST_F(ReplicaSetTest, AWorkerInsideAStepLivesByItsProgress) {
  MakeGroup({});
  const uint64_t a = Attach("a");
  SayReady(a);
  for (uint64_t layer = 1; layer <= 5; ++layer) {
    PassTime(absl::Seconds(9));
    SayHeartbeat(a, true, layer);
  }
  EXPECT_FALSE(links_[a]->closed.has_value());
  PassTime(absl::Seconds(9));
  SayHeartbeat(a, true, 5);  // no layer further
  PassTime(absl::Seconds(1));
  EXPECT_TRUE(links_[a]->closed.has_value());
}

TEST_F(ReplicaSetTest, TheSurvivorsOfAStuckWorkerGetNewTime) {
  MakeGroup({.num_ranks = 1, .num_stages = 2});
  const uint64_t a = Attach("a");
  const uint64_t b = Attach("b");
  SayReady(a);
  SayReady(b);
  PassTime(absl::Seconds(5));
  SayHeartbeat(b, true, 1);  // then it waits for a
  PassTime(absl::Seconds(5));
  EXPECT_TRUE(links_[a]->closed.has_value());
  PassTime(absl::Seconds(5));
  EXPECT_FALSE(links_[b]->closed.has_value());
}

TEST_F(ReplicaSetTest, AStreamThatNeverRegistersIsClosed) {
  MakeGroup({});
  const uint64_t id = Connect();
  PassTime(absl::Seconds(10));
  EXPECT_TRUE(links_[id]->closed.has_value());
  EXPECT_THAT(set_->Statuses(now_), IsEmpty());
}

TEST_F(ReplicaSetTest, AWorkerThatLeavesIsNotLost) {
  MakeGroup({.num_ranks = 1, .num_stages = 1});
  const uint64_t a = Attach("a");
  SayReady(a);
  v1::WorkerMessage leaving;
  leaving.mutable_leaving();
  Say(a, leaving);
  EXPECT_TRUE(links_[a]->closed->ok());
  EXPECT_EQ(scheduler_.num_lost, 1);
  EXPECT_EQ(set_->Statuses(now_)[0].state(), "draining");
  set_->OnDetach(a, now_);
  EXPECT_THAT(set_->Statuses(now_), IsEmpty());
}

TEST_F(ReplicaSetTest, ALostWorkerThatComesBackIsNotShownTwice) {
  MakeGroup({});
  set_->OnDetach(Attach("a"), now_);
  Attach("a");
  ASSERT_THAT(set_->Statuses(now_), SizeIs(1));
  EXPECT_EQ(set_->Statuses(now_)[0].state(), "loading");
}

TEST_F(ReplicaSetTest, ShutdownClosesEveryStream) {
  MakeGroup({});
  const uint64_t a = Attach("a");
  const uint64_t spare = Attach("b");
  SayReady(a);
  set_->Shutdown(now_);
  EXPECT_EQ(links_[a]->closed->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(links_[spare]->closed->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(scheduler_.num_lost, 1);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
