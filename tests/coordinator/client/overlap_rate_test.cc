#include "coordinator/client/overlap_rate.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::client {
namespace {

// Tokens at begin, begin + step, … in milliseconds.
std::vector<absl::Time> Every(int step_ms, int begin_ms, int num_tokens) {
  std::vector<absl::Time> arrivals;
  for (int i = 0; i < num_tokens; ++i) {
    arrivals.push_back(absl::UnixEpoch() + absl::Milliseconds(begin_ms + i * step_ms));
  }
  return arrivals;
}

TEST(OverlapRateTest, CountsOneStreamBetweenItsTokens) {
  const auto rate = OverlapRate({Every(10, 0, 20)}, /*num_dropped=*/4, /*num_counted=*/10);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_NEAR(*rate, 100, 1e-9);
}

TEST(OverlapRateTest, IgnoresSlowTokensBeforeAndAfterTheCount) {
  auto arrivals = Every(10, 0, 15);
  for (int i = 0; i < 4; ++i) arrivals[i] -= absl::Seconds(5 - i);
  arrivals.push_back(arrivals.back() + absl::Seconds(9));
  const auto rate = OverlapRate({arrivals}, 4, 10);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_NEAR(*rate, 100, 1e-9);
}

TEST(OverlapRateTest, AddsStreamsOnlyWhileAllDecode) {
  // The first stream is twice as fast while it is alone.
  auto first = Every(5, 0, 20);
  const auto shared = Every(10, 100, 30);
  first.insert(first.end(), shared.begin(), shared.end());
  const auto rate = OverlapRate({first, Every(10, 100, 30)}, 0, 25);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_NEAR(*rate, 200, 1e-9);
}

TEST(OverlapRateTest, IsNotBiasedByTheOrderOfArrivalsWithinAStep) {
  std::vector<std::vector<absl::Time>> streams;
  for (int i = 0; i < 8; ++i) streams.push_back(Every(20, i, 40));
  const auto rate = OverlapRate(streams, 4, 16);
  ASSERT_TRUE(rate.ok()) << rate.status();
  EXPECT_NEAR(*rate, 400, 1e-9);
}

TEST(OverlapRateTest, RejectsStreamsThatDoNotOverlap) {
  const auto rate = OverlapRate({Every(10, 0, 10), Every(10, 1000, 10)}, 0, 10);
  EXPECT_EQ(rate.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(rate.status().message()), testing::HasSubstr("stream 0"));
}

TEST(OverlapRateTest, RejectsStreamsShorterThanWhatIsDropped) {
  const auto rate = OverlapRate({Every(10, 0, 4)}, 4, 10);
  EXPECT_EQ(rate.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(OverlapRateTest, RejectsTokensThatArriveAllAtOnce) {
  const auto rate = OverlapRate({Every(0, 0, 20)}, 4, 10);
  EXPECT_EQ(rate.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kvec::coordinator::client
