// Several groups of workers, each with a whole model.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/replica_set_fixture.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReplicaSetReplicasTest : public ReplicaSetFixture {
 protected:
  ReplicaSetReplicasTest() { others_.resize(1); }

  void MakeReplicas(int num_ranks, int num_stages) {
    MakeGroup({.num_ranks = num_ranks, .num_stages = num_stages, .num_replicas = 2});
  }

  uint64_t AttachFrom(const std::string& host, const std::string& worker_id) {
    const uint64_t id = Connect();
    v1::WorkerMessage message = Registration(worker_id);
    message.mutable_register_()->set_host(host);
    Say(id, message);
    return id;
  }

  void SayResult(uint64_t id) {
    v1::WorkerMessage message;
    message.mutable_step_result()->set_group_epoch(LastEpoch(id));
    Say(id, message);
  }

  RecordingScheduler& other() { return others_[0]; }
};

TEST_F(ReplicaSetReplicasTest, EachFormsAsSoonAsThereAreWorkersForIt) {
  MakeReplicas(1, 2);
  const std::vector<uint64_t> first = {Attach("a"), Attach("b")};
  EXPECT_EQ(LastEpoch(first[1]), 1u);
  const std::vector<uint64_t> second = {Attach("c"), Attach("d")};
  EXPECT_EQ(LastEpoch(second[0]), 2u);
  EXPECT_EQ(LastEpoch(Attach("spare")), 0u);
  EXPECT_EQ(LastSent(second[0]).form_group().num_replicas(), 2u);

  for (uint64_t id : second) SayReady(id);
  EXPECT_FALSE(scheduler_.group.has_value());
  EXPECT_EQ(other().group->epoch, 2u);
  for (uint64_t id : first) SayReady(id);
  EXPECT_EQ(scheduler_.group->epoch, 1u);
  // Told once: from then on there is one that serves.
  EXPECT_THAT(ready_changes_, ElementsAre(true));
  const std::vector<v1::WorkerStatus> statuses = set_->Statuses(now_);
  ASSERT_EQ(statuses.size(), 5u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(statuses[i].replica(), i / 2);
    EXPECT_EQ(statuses[i].free_pages(), 7u + 2u);
  }
}

TEST_F(ReplicaSetReplicasTest, OneThatIsLostLeavesTheOtherAlone) {
  MakeReplicas(1, 2);
  std::vector<uint64_t> workers;
  for (const char* name : {"a", "b", "c", "d"}) workers.push_back(Attach(name));
  for (uint64_t id : workers) SayReady(id);
  set_->OnDetach(workers[3], now_);
  EXPECT_EQ(other().num_lost, 1);
  EXPECT_EQ(scheduler_.num_lost, 0);
  EXPECT_TRUE(LastSent(workers[2]).has_abort_group());
  EXPECT_TRUE(LastSent(workers[0]).has_form_group());
  SayResult(workers[1]);
  EXPECT_THAT(scheduler_.result_workers, ElementsAre(1u));
  EXPECT_THAT(ready_changes_, ElementsAre(true));

  SayAborted(workers[2]);
  const uint64_t replacement = Attach("d");
  EXPECT_EQ(LastEpoch(replacement), 3u);
  EXPECT_EQ(LastEpoch(workers[2]), 3u);
  for (uint64_t id : {workers[2], replacement}) SayReady(id);
  EXPECT_EQ(other().group->epoch, 3u);
  SayResult(replacement);
  EXPECT_THAT(other().result_workers, ElementsAre(1u));
}

TEST_F(ReplicaSetReplicasTest, TheLastOneThatIsLostIsTold) {
  MakeReplicas(1, 1);
  const std::vector<uint64_t> workers = {Attach("a"), Attach("b")};
  for (uint64_t id : workers) SayReady(id);
  set_->OnDetach(workers[0], now_);
  EXPECT_THAT(ready_changes_, ElementsAre(true));
  set_->OnDetach(workers[1], now_);
  EXPECT_THAT(ready_changes_, ElementsAre(true, false));
}

TEST_F(ReplicaSetReplicasTest, ASpareGoesWhereRequestsWait) {
  MakeReplicas(1, 1);
  const std::vector<uint64_t> workers = {Attach("a"), Attach("b")};
  for (uint64_t id : workers) SayReady(id);
  for (uint64_t id : workers) set_->OnDetach(id, now_);
  other().current_counts.num_waiting = 1;
  SayReady(Attach("c"));
  EXPECT_TRUE(other().group.has_value());
  EXPECT_FALSE(scheduler_.group.has_value());
}

TEST_F(ReplicaSetReplicasTest, RanksAreOfOneHostWhereOneHasEnough) {
  MakeReplicas(2, 1);
  const std::vector<uint64_t> workers = {AttachFrom("a", "a1"), AttachFrom("b", "b1"),
                                         AttachFrom("c", "c1"), AttachFrom("b", "b2")};
  EXPECT_EQ(LastEpoch(workers[1]), 1u);  // nobody knew whether others would come
  EXPECT_EQ(LastEpoch(workers[3]), 2u);
  SayError(workers[0], 1);
  SayError(workers[2], 2);
  for (uint64_t id : workers) SayAborted(id);
  PassTime(absl::Seconds(1));
  EXPECT_EQ(LastEpoch(workers[1]), 3u);
  EXPECT_EQ(LastEpoch(workers[3]), 3u);
  EXPECT_EQ(LastEpoch(workers[0]), 4u);
  EXPECT_EQ(LastEpoch(workers[2]), 4u);
}

TEST_F(ReplicaSetReplicasTest, ALeaverOfOneHoldsOnlyItsOwnStarts) {
  MakeReplicas(1, 1);
  const std::vector<uint64_t> workers = {Attach("a"), Attach("b")};
  for (uint64_t id : workers) SayReady(id);
  other().current_counts.num_running = 1;
  v1::WorkerMessage leaving;
  leaving.mutable_leaving();
  Say(workers[1], leaving);
  EXPECT_TRUE(other().holds_starts);
  EXPECT_FALSE(scheduler_.holds_starts);
  other().current_counts.num_running = 0;
  SayResult(workers[1]);
  EXPECT_TRUE(links_[workers[1]]->closed.has_value());
  EXPECT_FALSE(links_[workers[0]]->closed.has_value());
}

TEST_F(ReplicaSetReplicasTest, RefusesATraceOfAReplicaThatIsNone) {
  MakeReplicas(1, 1);
  v1::TraceRequest request;
  request.set_num_steps(1);
  request.set_replica(2);
  const absl::Status status = set_->StartTrace(
      1, request, [](v1::TraceResponse) {}, now_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("replica: 2"));
  request.set_replica(1);
  EXPECT_TRUE(set_->StartTrace(
                      2, request, [](v1::TraceResponse) {}, now_)
                  .ok());
}

}  // namespace
}  // namespace kvec::coordinator::cluster
