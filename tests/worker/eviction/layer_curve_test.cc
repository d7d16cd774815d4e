#include "worker/eviction/layer_curve.h"

#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::eviction {
namespace {

using ::testing::ElementsAre;

TEST(LayerCurveTest, IsTheShareThatTheRootsOfTheBestPairsHold) {
  const std::vector<float> scores = {1, 25, 0, 4, 4};
  const std::vector<uint32_t> budgets = {0, 1, 2, 4, 100};
  EXPECT_THAT(LayerCurve(scores, budgets), ElementsAre(0.0f, 0.5f, 0.7f, 1.0f, 1.0f));
}

TEST(LayerCurveTest, LeavesOutWhatNoHeadHolds) {
  const float not_held = -std::numeric_limits<float>::infinity();
  const std::vector<float> scores = {not_held, 9, 1, not_held};
  const std::vector<uint32_t> budgets = {1, 2};
  EXPECT_THAT(LayerCurve(scores, budgets), ElementsAre(0.75f, 1.0f));
}

TEST(LayerCurveTest, HasNothingToLoseWithoutScores) {
  EXPECT_THAT(LayerCurve(std::vector<float>(4, 0.0f), std::vector<uint32_t>{1, 2}),
              ElementsAre(1.0f, 1.0f));
}

}  // namespace
}  // namespace kvec::worker::eviction
