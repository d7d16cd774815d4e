// Groups whose shape the attached workers decide.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/replica_set_fixture.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::IsEmpty;

class ReplicaSetShapeTest : public ReplicaSetFixture {
 protected:
  ReplicaSetShapeTest() { MakeGroupOfAnyShape(); }

  // On a host and of a device of its own. The model has 50 bytes of weights, for which 110 are
  // wanted.
  uint64_t AttachWithMemory(const std::string& worker_id, uint64_t memory_bytes) {
    const uint64_t id = Connect();
    v1::WorkerMessage message = Registration(worker_id);
    message.mutable_register_()->set_host(absl::StrCat("host of ", worker_id));
    message.mutable_register_()->set_memory_bytes(memory_bytes);
    Say(id, message);
    return id;
  }

  // "1/2": the second of two stages. Empty: the worker was not told to be in a group last.
  std::string StageOf(uint64_t id) {
    if (links_[id]->sent.empty() || !LastSent(id).has_form_group()) return {};
    const v1::Placement& placement = LastSent(id).form_group().placement();
    return absl::StrCat(placement.stage(), "/", placement.num_stages());
  }
};

TEST_F(ReplicaSetShapeTest, WaitsForWorkersThatAttachTogether) {
  const uint64_t first = AttachWithMemory("a", 70);
  EXPECT_EQ(set_->NextTimeout(), now_ + absl::Seconds(2));
  PassTime(absl::Seconds(1.5));
  const uint64_t second = AttachWithMemory("b", 70);
  PassTime(absl::Seconds(1.5));
  const uint64_t third = AttachWithMemory("c", 70);
  PassTime(absl::Seconds(1.9));
  EXPECT_EQ(StageOf(first), "");
  PassTime(absl::Seconds(0.1));
  EXPECT_EQ(StageOf(first), "0/2");
  EXPECT_EQ(StageOf(second), "1/2");
  EXPECT_EQ(StageOf(third), "");  // a spare
}

TEST_F(ReplicaSetShapeTest, WaitsForMoreWhereThereIsTooLittleMemory) {
  const uint64_t first = AttachWithMemory("a", 70);
  PassTime(absl::Seconds(2));
  EXPECT_THAT(links_[first]->sent, IsEmpty());
  // Nothing to wake up for but silence.
  EXPECT_GT(set_->NextTimeout(), now_ + absl::Minutes(10));
  const uint64_t second = AttachWithMemory("b", 70);
  PassTime(absl::Seconds(2));
  EXPECT_EQ(StageOf(first), "0/2");
  EXPECT_EQ(StageOf(second), "1/2");
}

TEST_F(ReplicaSetShapeTest, KeepsItsShapeWhenALostWorkerComesBackAndElseTakesAnother) {
  std::vector<uint64_t> workers = {AttachWithMemory("a", 70), AttachWithMemory("b", 70)};
  PassTime(absl::Seconds(2));
  for (uint64_t id : workers) SayReady(id);
  ASSERT_TRUE(scheduler_.group.has_value());
  set_->OnDetach(workers[1], now_);
  SayAborted(workers[0]);
  const uint64_t large = AttachWithMemory("large", 200);
  EXPECT_EQ(StageOf(workers[0]), "0/2");
  EXPECT_EQ(StageOf(large), "1/2");
  for (uint64_t id : {workers[0], large}) SayReady(id);

  set_->OnDetach(workers[0], now_);
  SayAborted(large);
  PassTime(absl::Seconds(29));
  EXPECT_TRUE(LastSent(large).has_abort_group());
  PassTime(absl::Seconds(1));
  EXPECT_EQ(StageOf(large), "0/1");
  SayReady(large);
  EXPECT_EQ(scheduler_.group->workers.size(), 1u);
}

TEST_F(ReplicaSetShapeTest, MakesReplicasOfWorkersThatAreLeftOver) {
  others_.resize(2);
  MakeGroupOfAnyShape();
  std::vector<uint64_t> workers;
  for (const char* name : {"a", "b", "c", "d", "e"}) workers.push_back(AttachWithMemory(name, 70));
  EXPECT_EQ(set_->num_replicas(), 1u);
  PassTime(absl::Seconds(2));
  EXPECT_EQ(set_->num_replicas(), 2u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(StageOf(workers[i]), i % 2 == 0 ? "0/2" : "1/2");
  EXPECT_EQ(LastEpoch(workers[1]), 1u);
  EXPECT_EQ(LastEpoch(workers[2]), 2u);
  EXPECT_EQ(StageOf(workers[4]), "");

  // With fewer workers there are still two that requests may wait for.
  for (int i = 0; i < 4; ++i) SayReady(workers[i]);
  for (int i = 1; i < 5; ++i) set_->OnDetach(workers[i], now_);
  SayAborted(workers[0]);
  PassTime(absl::Seconds(10));
  others_[0].current_counts.num_waiting = 1;
  const uint64_t large = AttachWithMemory("large", 200);
  EXPECT_EQ(LastEpoch(large), 3u);
  for (uint64_t id : {workers[0], large}) SayReady(id);
  EXPECT_TRUE(others_[0].group.has_value());
  EXPECT_FALSE(scheduler_.group.has_value());
  EXPECT_EQ(set_->num_replicas(), 2u);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
