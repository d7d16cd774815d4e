#include "coordinator/cluster/seating.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;

TEST(SeatingTest, WorkersOfOneHostSitInTheOrderOfAttachment) {
  EXPECT_THAT(
      SeatWorkers({.num_ranks = 2, .num_stages = 2}, {{1, "h"}, {2, "h"}, {3, "h"}, {4, "h"}}),
      ElementsAre(1, 2, 3, 4));
}

TEST(SeatingTest, TheRanksOfAStageShareAHost) {
  EXPECT_THAT(
      SeatWorkers({.num_ranks = 2, .num_stages = 2}, {{1, "a"}, {2, "b"}, {3, "b"}, {4, "a"}}),
      ElementsAre(1, 4, 2, 3));
  EXPECT_THAT(SeatWorkers({.num_ranks = 3, .num_stages = 1}, {{1, "a"}, {2, "b"}, {3, "b"}}),
              ElementsAre(2, 3, 1));
}

TEST(SeatingTest, SurvivorsKeepTheirPlacesAndTheNewOneTakesTheEmptyOne) {
  EXPECT_THAT(SeatWorkers({.num_ranks = 2, .num_stages = 2},
                          {{2, "h", 1}, {3, "h", 2}, {4, "h", 3}, {9, "h"}}),
              ElementsAre(9, 2, 3, 4));
  // Two that were in different groups claim one place.
  EXPECT_THAT(SeatWorkers({.num_ranks = 2, .num_stages = 1}, {{1, "h", 1}, {2, "h", 1}}),
              ElementsAre(2, 1));
  // A place that this shape has not.
  EXPECT_THAT(SeatWorkers({.num_ranks = 1, .num_stages = 2}, {{1, "h", 7}, {2, "h", 0}}),
              ElementsAre(2, 1));
}

TEST(SeatingTest, EveryoneHasExactlyOneSeat) {
  std::mt19937 random(1);
  for (int repetition = 0; repetition < 500; ++repetition) {
    const ParallelShape shape = {.num_ranks = 1 + static_cast<int>(random() % 4),
                                 .num_stages = 1 + static_cast<int>(random() % 4)};
    std::vector<SeatCandidate> candidates;
    std::vector<uint64_t> expected;
    for (int i = 0; i < shape.num_workers(); ++i) {
      expected.push_back(100 + i);
      SeatCandidate& candidate = candidates.emplace_back();
      candidate.id = expected.back();
      candidate.host = std::to_string(random() % 3);
      if (random() % 2 == 0) candidate.last_seat = static_cast<int>(random() % 20) - 2;
    }
    std::vector<uint64_t> seated = SeatWorkers(shape, candidates);
    std::sort(seated.begin(), seated.end());
    EXPECT_EQ(seated, expected);
  }
}

}  // namespace
}  // namespace kvec::coordinator::cluster
