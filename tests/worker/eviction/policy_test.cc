#include "worker/eviction/policy.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/eviction/head_budgets.h"
#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Policy, AnUnknownNameIsRejectedWithTheKnownOnes) {
  const auto policy = MakePolicy("h2o", {});
  ASSERT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(policy.status().message(),
            "cache.policy: unknown \"h2o\"; known: full, streaming, snapkv, pyramidkv, adasnapkv, "
            "kvec-paper, kvec");
}

TEST(Policy, EveryListedNameIsMade) {
  for (absl::string_view name : PolicyNames()) {
    EXPECT_TRUE(MakePolicy(name, {.num_tokens = 100}).ok()) << name;
  }
}

TEST(Policy, NoWindowIsLongerThanThePrompt) {
  const auto policy = MakePolicy("kvec", {.num_tokens = 5, .observation_window = 2});
  ASSERT_TRUE(policy.ok());
  EXPECT_THAT((*policy)->needs().windows, ElementsAre(5));
}

TEST(Policy, StreamingKeepsSinksAndTheMostRecent) {
  const auto policy = MakePolicy("streaming", {.num_tokens = 36});
  ASSERT_TRUE(policy.ok());
  LayerScores scores;
  scores.num_candidates = 20;
  scores.num_kv_heads = 2;
  EXPECT_THAT((*policy)->Select(scores, 14, {}), ElementsAre(ElementsAre(0, 1, 2, 3, 17, 18, 19),
                                                             ElementsAre(0, 1, 2, 3, 17, 18, 19)));
  EXPECT_THAT((*policy)->Select(scores, 6, {}),
              ElementsAre(ElementsAre(0, 1, 2), ElementsAre(0, 1, 2)));
}

TEST(Policy, CoverageCountsATokenOncePerLayer) {
  Coverage coverage{.layers_selecting = {0, 0, 0, 0}};
  LayerScores scores;
  scores.num_candidates = 4;
  AddSelection(scores, {{0, 2}, {2, 3}}, coverage);
  AddSelection(scores, {{2}, {}}, coverage);
  EXPECT_EQ(coverage.num_layers, 2);
  EXPECT_THAT(coverage.layers_selecting, ElementsAre(1, 0, 2, 1));
}

TEST(Policy, CoverageCountsPositions) {
  Coverage coverage{.layers_selecting = std::vector<uint16_t>(8, 0)};
  LayerScores scores;
  scores.num_candidates = 3;
  const std::vector<int32_t> positions = {1, 4, 7};
  scores.positions = positions;
  AddSelection(scores, {{0, 2}, {2}}, coverage);
  EXPECT_THAT(coverage.layers_selecting, ElementsAre(0, 1, 0, 0, 0, 0, 0, 1));
}

TEST(TopK, TiesGoToTheLowerIndexAndTheResultAscends) {
  const std::vector<float> scores = {1, 3, 2, 3, 2, 2};
  EXPECT_THAT(TopK(absl::MakeConstSpan(scores), 4), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(TopK(absl::MakeConstSpan(scores), 0), IsEmpty());
  EXPECT_THAT(TopK(absl::MakeConstSpan(scores), 9), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(TopK, NeverTakesWhatIsNotHeld) {
  const std::vector<double> scores = {1, kNotHeld<double>, -2, kNotHeld<double>};
  EXPECT_THAT(TopK(absl::MakeConstSpan(scores), 1), ElementsAre(0));
  EXPECT_THAT(TopK(absl::MakeConstSpan(scores), 3), ElementsAre(0, 2));
}

TEST(SelectAcrossHeads, EveryHeadIsSureOfAFifthOfItsShare) {
  // All of the second head's scores are below all of the first's: k = 5, ⌊0.2 · 5⌋ = 1.
  const std::vector<float> scores = {9, 8, 7, 6, 9, 8, 7, 6, 9, 8,  //
                                     1, 2, 3, 4, 5, 5, 4, 3, 2, 1};
  EXPECT_THAT(SelectAcrossHeads(scores, 2, 10, 10),
              ElementsAre(ElementsAre(0, 1, 2, 3, 4, 5, 6, 8, 9), ElementsAre(4)));
}

}  // namespace
}  // namespace kvec::worker::eviction
