#include "coordinator/cluster/placement.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::HasSubstr;

TEST(PlacementTest, ReadsAShape) {
  struct Case {
    std::string text;
    int num_ranks;
    int num_stages;
  };
  for (const Case& test : std::vector<Case>{
           {"tp=2,pp=3", 2, 3}, {"pp=3,tp=2", 2, 3}, {"tp=4", 4, 1}, {"pp=5", 1, 5}}) {
    const absl::StatusOr<ParallelShape> shape = ParseParallelShape(test.text);
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_EQ(shape->num_ranks, test.num_ranks) << test.text;
    EXPECT_EQ(shape->num_stages, test.num_stages) << test.text;
  }
}

TEST(PlacementTest, RefusesWhatIsNoShape) {
  for (const char* text : {"", "2", "tp", "tp=", "tp=0", "pp=-1", "tp=1025", "tp=2;pp=2", "x=1",
                           "tp=1e1", "tp=99999999999"}) {
    const absl::Status status = ParseParallelShape(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(PlacementTest, RefusesMoreStagesThanLayersAndRanksThatSplitAHead) {
  ModelConfig config;
  config.num_layers = 3;
  config.num_heads = 8;
  EXPECT_TRUE(CheckParallelShape({.num_ranks = 8, .num_stages = 3}, config).ok());
  EXPECT_FALSE(CheckParallelShape({.num_ranks = 1, .num_stages = 4}, config).ok());
  EXPECT_FALSE(CheckParallelShape({.num_ranks = 3, .num_stages = 1}, config).ok());
}

TEST(PlacementTest, EveryLayerHasOneStageAndStagesDifferByOneLayer) {
  for (int num_layers = 1; num_layers <= 40; ++num_layers) {
    for (int num_stages = 1; num_stages <= num_layers; ++num_stages) {
      const std::vector<v1::Placement> placements =
          PlaceWorkers({.num_ranks = 2, .num_stages = num_stages}, num_layers);
      ASSERT_EQ(placements.size(), 2u * num_stages);
      uint32_t next_layer = 0;
      for (int stage = 0; stage < num_stages; ++stage) {
        for (int rank = 0; rank < 2; ++rank) {
          const v1::Placement& placement = placements[stage * 2 + rank];
          EXPECT_EQ(placement.stage(), stage);
          EXPECT_EQ(placement.rank(), rank);
          EXPECT_EQ(placement.first_layer(), next_layer);
          EXPECT_GE(placement.num_layers(), num_layers / num_stages);
          EXPECT_LE(placement.num_layers(), num_layers / num_stages + 1);
        }
        next_layer += placements[stage * 2].num_layers();
      }
      EXPECT_EQ(next_layer, num_layers);
    }
  }
}

}  // namespace
}  // namespace kvec::coordinator::cluster
