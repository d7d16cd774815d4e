// Groups whose shape the attached workers decide.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/cluster/worker_group_fixture.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::IsEmpty;

class WorkerGroupShapeTest : public WorkerGroupFixture {
 protected:
  WorkerGroupShapeTest() { MakeGroupOfAnyShape(); }

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

TEST_F(WorkerGroupShapeTest, WaitsForWorkersThatAttachTogether) {
  const uint64_t first = AttachWithMemory("a", 70);
  EXPECT_EQ(group_->NextTimeout(), now_ + absl::Seconds(2));
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

TEST_F(WorkerGroupShapeTest, WaitsForMoreWhereThereIsTooLittleMemory) {
  const uint64_t first = AttachWithMemory("a", 70);
  PassTime(absl::Seconds(2));
  EXPECT_THAT(links_[first]->sent, IsEmpty());
  // Nothing to wake up for but silence.
  EXPECT_GT(group_->NextTimeout(), now_ + absl::Minutes(10));
  const uint64_t second = AttachWithMemory("b", 70);
  PassTime(absl::Seconds(2));
  EXPECT_EQ(StageOf(first), "0/2");
  EXPECT_EQ(StageOf(second), "1/2");
}

TEST_F(WorkerGroupShapeTest, KeepsItsShapeWhenALostWorkerComesBackAndElseTakesAnother) {
  std::vector<uint64_t> workers = {AttachWithMemory("a", 70), AttachWithMemory("b", 70)};
  PassTime(absl::Seconds(2));
  for (uint64_t id : workers) SayReady(id);
  ASSERT_TRUE(scheduler_.group.has_value());
  group_->OnDetach(workers[1], now_);
  SayAborted(workers[0]);
  const uint64_t large = AttachWithMemory("large", 200);
  EXPECT_EQ(StageOf(workers[0]), "0/2");
  EXPECT_EQ(StageOf(large), "1/2");
  for (uint64_t id : {workers[0], large}) SayReady(id);

  group_->OnDetach(workers[0], now_);
  SayAborted(large);
  PassTime(absl::Seconds(29));
  EXPECT_TRUE(LastSent(large).has_abort_group());
  PassTime(absl::Seconds(1));
  EXPECT_EQ(StageOf(large), "0/1");
  SayReady(large);
  EXPECT_EQ(scheduler_.group->workers.size(), 1u);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
