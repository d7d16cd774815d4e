// By what workers measured, and when that is not believed.

#include "coordinator/cluster/stage_speeds.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

struct Machine {
  std::string host = "a";
  std::string device = "cpu";
  uint32_t threads = 8;
  uint64_t speed = 0;
  uint64_t memory = 0;
};

class Workers {
 public:
  explicit Workers(const std::vector<Machine>& machines) {
    for (const Machine& machine : machines) {
      v1::Register& worker = registrations_.emplace_back();
      worker.set_host(machine.host);
      worker.set_device(machine.device);
      worker.set_threads(machine.threads);
      worker.set_read_bytes_per_second(machine.speed);
      worker.set_memory_bytes(machine.memory);
    }
    for (const v1::Register& worker : registrations_) pointers_.push_back(&worker);
  }
  operator absl::Span<const v1::Register* const>() const { return pointers_; }

 private:
  std::vector<v1::Register> registrations_;
  std::vector<const v1::Register*> pointers_;
};

TEST(StageSpeedsTest, AStageIsAsFastAsItsSlowestRank) {
  const Workers workers({{.host = "a", .speed = 100},
                         {.host = "b", .speed = 50},
                         {.host = "c", .speed = 200},
                         {.host = "d", .speed = 210}});
  EXPECT_THAT(StageSpeeds({.num_ranks = 2, .num_stages = 2}, workers),
              ElementsAre(DoubleEq(0.25), DoubleEq(1)));
}

TEST(StageSpeedsTest, EqualWorkersOfAHostAreEqualWhateverDisturbedThem) {
  const Workers workers({{.threads = 4, .speed = 100}, {.threads = 4, .speed = 30}});
  EXPECT_THAT(StageSpeeds({.num_stages = 2}, workers), ElementsAre(1, 1));
  const Workers others({{.threads = 4, .speed = 100}, {.threads = 1, .speed = 30}});
  EXPECT_THAT(StageSpeeds({.num_stages = 2}, others), ElementsAre(1, DoubleEq(0.3)));
}

TEST(StageSpeedsTest, SmallDifferencesAreNoise) {
  const Workers workers({{.host = "a", .speed = 76}, {.host = "b", .speed = 100}});
  EXPECT_THAT(StageSpeeds({.num_stages = 2}, workers), ElementsAre(1, 1));
}

TEST(StageSpeedsTest, AllAreEqualWhereOneDidNotMeasure) {
  const Workers workers({{.host = "a", .speed = 10}, {.host = "b", .speed = 0}});
  EXPECT_THAT(StageSpeeds({.num_stages = 2}, workers), ElementsAre(1, 1));
}

TEST(StageSpeedsTest, WeightsMustLeaveRoomForACache) {
  ModelBytes bytes;
  bytes.layers.assign(4, 100);
  bytes.head = 50;
  const ParallelShape shape{.num_stages = 2};
  const std::vector<double> speeds = {1.0, 0.4};
  const std::vector<v1::Placement> placements = [&] {
    bytes.cache.assign(4, 0);
    return PlaceWorkers(shape, bytes, speeds);
  }();
  ASSERT_EQ(placements[0].num_layers(), 3);
  EXPECT_TRUE(WeightsFit(shape, bytes, placements, Workers({{.memory = 600}, {.memory = 300}})));
  EXPECT_TRUE(WeightsFit(shape, bytes, placements, Workers({{.memory = 0}, {.memory = 0}})));
  EXPECT_FALSE(WeightsFit(shape, bytes, placements, Workers({{.memory = 599}, {.memory = 300}})));
  EXPECT_FALSE(WeightsFit(shape, bytes, placements, Workers({{.memory = 600}, {.memory = 299}})));
}

}  // namespace
}  // namespace kvec::coordinator::cluster
