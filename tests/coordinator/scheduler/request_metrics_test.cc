#include "coordinator/scheduler/request_metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

absl::Time At(int64_t ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

TEST(RequestMetricsTest, GivesTheTimesOfARequest) {
  RequestMetrics metrics(At(100));
  metrics.OnScheduled(At(130));
  metrics.OnScheduled(At(900));  // a replay's
  metrics.OnToken(0, At(180));
  metrics.OnToken(0, At(190));
  metrics.OnToken(0, At(210));
  metrics.OnPreempted();
  metrics.OnChoiceFinished({.pages = 4096, .entries = 1000, .peak_pages = 8192});
  v1::Usage usage;
  metrics.Fill(17, usage);
  EXPECT_EQ(usage.prompt_tokens(), 17);
  EXPECT_EQ(usage.completion_tokens(), 3);
  EXPECT_EQ(usage.preemptions(), 1);
  EXPECT_EQ(usage.kv_bytes(), 4096);
  EXPECT_EQ(usage.logical_kv_bytes(), 1000);
  EXPECT_EQ(usage.peak_kv_bytes(), 8192);
  EXPECT_DOUBLE_EQ(usage.queue_ms(), 30);
  EXPECT_DOUBLE_EQ(usage.time_to_first_token_ms(), 80);
  EXPECT_DOUBLE_EQ(usage.prefill_ms(), 50);
  EXPECT_THAT(usage.inter_token_ms(), ElementsAre(FloatEq(10), FloatEq(20)));
  EXPECT_DOUBLE_EQ(usage.decode_tokens_per_second(), 2 / 0.030);
}

TEST(RequestMetricsTest, MeasuresTheDecodeOfOneChoiceOnly) {
  RequestMetrics metrics(At(0));
  metrics.OnScheduled(At(0));
  for (int64_t step = 1; step <= 5; ++step) {
    for (uint32_t choice = 0; choice < 4; ++choice) metrics.OnToken(choice, At(10 * step));
  }
  v1::Usage usage;
  metrics.Fill(1, usage);
  EXPECT_EQ(usage.completion_tokens(), 20);
  EXPECT_EQ(usage.inter_token_ms_size(), 4);
  EXPECT_DOUBLE_EQ(usage.decode_tokens_per_second(), 100);
}

TEST(RequestMetricsTest, LeavesOutWhatDidNotHappen) {
  v1::Usage usage;
  RequestMetrics(At(5)).Fill(3, usage);
  EXPECT_EQ(usage.prompt_tokens(), 3);
  EXPECT_EQ(usage.queue_ms(), 0);
  EXPECT_EQ(usage.time_to_first_token_ms(), 0);
  EXPECT_EQ(usage.decode_tokens_per_second(), 0);
}

TEST(RequestMetricsTest, HasNoSpeedForTokensThatCameAtOnce) {
  RequestMetrics metrics(At(0));
  metrics.OnScheduled(At(0));
  metrics.OnToken(0, At(7));
  metrics.OnToken(0, At(7));
  v1::Usage usage;
  metrics.Fill(3, usage);
  EXPECT_EQ(usage.decode_tokens_per_second(), 0);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
