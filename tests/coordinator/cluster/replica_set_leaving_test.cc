// Workers that are to end: nobody's answer is cut.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/replica_set_fixture.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;

class ReplicaSetLeavingTest : public ReplicaSetFixture {
 protected:
  // A ready group of two workers.
  ReplicaSetLeavingTest() {
    MakeGroup({.num_ranks = 2, .num_stages = 1});
    for (const char* name : {"a", "b"}) members_.push_back(Attach(name));
    for (uint64_t id : members_) SayReady(id);
  }

  void SayLeaving(uint64_t id) {
    v1::WorkerMessage message;
    message.mutable_leaving();
    Say(id, message);
  }

  void SayResult(uint64_t id) {
    v1::WorkerMessage message;
    message.mutable_step_result()->set_group_epoch(LastEpoch(id));
    Say(id, message);
  }

  bool IsLetGo(uint64_t id) const {
    return links_.at(id)->closed.has_value() && links_.at(id)->closed->ok();
  }

  std::vector<uint64_t> members_;
};

TEST_F(ReplicaSetLeavingTest, AWorkerOfAnIdleGroupIsLetGoAtOnce) {
  SayLeaving(members_[0]);
  EXPECT_TRUE(IsLetGo(members_[0]));
  EXPECT_TRUE(LastSent(members_[1]).has_abort_group());
  EXPECT_THAT(ready_changes_, ElementsAre(true, false));
}

TEST_F(ReplicaSetLeavingTest, ASpareIsLetGoAtOnce) {
  scheduler_.current_counts.num_running = 1;
  const uint64_t spare = Attach("spare");
  SayLeaving(spare);
  EXPECT_TRUE(IsLetGo(spare));
  EXPECT_THAT(ready_changes_, ElementsAre(true));
}

TEST_F(ReplicaSetLeavingTest, RunningRequestsEndFirstAndNoOthersAreStarted) {
  scheduler_.current_counts.num_running = 2;
  SayLeaving(members_[0]);
  EXPECT_TRUE(scheduler_.holds_starts);
  EXPECT_EQ(set_->Statuses(now_)[0].state(), "draining");
  scheduler_.current_counts.num_running = 1;
  SayResult(members_[1]);
  EXPECT_FALSE(IsLetGo(members_[0]));
  EXPECT_EQ(scheduler_.num_lost, 0);
  scheduler_.current_counts.num_running = 0;
  scheduler_.current_counts.num_waiting = 3;
  SayResult(members_[1]);
  EXPECT_TRUE(IsLetGo(members_[0]));
  EXPECT_FALSE(links_[members_[1]]->closed.has_value());
  EXPECT_EQ(scheduler_.num_lost, 1);
}

TEST_F(ReplicaSetLeavingTest, ASpareTakesItsPlaceAtOnce) {
  scheduler_.current_counts.num_running = 2;
  const uint64_t spare = Attach("spare");
  SayLeaving(members_[0]);
  EXPECT_FALSE(scheduler_.holds_starts);
  EXPECT_TRUE(IsLetGo(members_[0]));
  SayAborted(members_[1]);
  EXPECT_EQ(LastEpoch(spare), 2u);
  EXPECT_EQ(LastEpoch(members_[1]), 2u);
}

TEST_F(ReplicaSetLeavingTest, OneThatAttachesLaterTakesItsPlaceWhenAllWhoLeaveHaveOne) {
  scheduler_.current_counts.num_running = 2;
  for (uint64_t id : members_) SayLeaving(id);
  const uint64_t first = Attach("c");
  EXPECT_FALSE(IsLetGo(members_[0]));
  const uint64_t second = Attach("d");
  for (uint64_t id : members_) EXPECT_TRUE(IsLetGo(id));
  EXPECT_EQ(LastEpoch(first), 2u);
  EXPECT_EQ(LastEpoch(second), 2u);
}

TEST_F(ReplicaSetLeavingTest, OneThatDiesMeanwhileIsLostAsAnyOther) {
  scheduler_.current_counts.num_running = 2;
  SayLeaving(members_[0]);
  set_->OnDetach(members_[0], now_);
  EXPECT_EQ(scheduler_.num_lost, 1);
  SayAborted(members_[1]);
  Attach("a");
  EXPECT_EQ(LastEpoch(members_[1]), 2u);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
