#include "coordinator/server/metrics.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

std::map<std::string, prometheus::MetricFamily> ByName(const Metrics& metrics) {
  std::map<std::string, prometheus::MetricFamily> families;
  for (prometheus::MetricFamily& family : metrics.Collect()) {
    families[family.name] = std::move(family);
  }
  return families;
}

TEST(MetricsTest, ShowsTheSchedulersCounts) {
  Metrics::Snapshot snapshot;
  snapshot.counts.num_running = 3;
  snapshot.counts.num_waiting = 4;
  snapshot.counts.prompt_tokens = 100;
  snapshot.counts.generated_tokens = 50;
  snapshot.counts.preemptions = 2;
  snapshot.counts.prefix_cache_queries = 80;
  snapshot.counts.prefix_cache_hits = 64;
  snapshot.kv_cache_usage = 0.25;
  const Metrics metrics([&] { return snapshot; });
  auto families = ByName(metrics);
  EXPECT_EQ(families["kvec_num_requests_running"].metric.at(0).gauge.value, 3);
  EXPECT_EQ(families["kvec_num_requests_waiting"].metric.at(0).gauge.value, 4);
  EXPECT_EQ(families["kvec_kv_cache_usage_perc"].metric.at(0).gauge.value, 0.25);
  EXPECT_EQ(families["kvec_prompt_tokens_total"].metric.at(0).counter.value, 100);
  EXPECT_EQ(families["kvec_generation_tokens_total"].metric.at(0).counter.value, 50);
  EXPECT_EQ(families["kvec_num_preemptions_total"].metric.at(0).counter.value, 2);
  EXPECT_EQ(families["kvec_prefix_cache_queries_total"].metric.at(0).counter.value, 80);
  EXPECT_EQ(families["kvec_prefix_cache_hits_total"].metric.at(0).counter.value, 64);
}

TEST(MetricsTest, ShowsWhenCertificatesExpire) {
  Metrics::Snapshot snapshot;
  const Metrics metrics([&] { return snapshot; });
  constexpr char kName[] = "kvec_certificate_expiry_timestamp_seconds";
  EXPECT_EQ(ByName(metrics).count(kName), 0);
  snapshot.certificate_ends = {{"clients", absl::FromUnixSeconds(1'800'000'000)},
                               {"workers", absl::FromUnixSeconds(1'900'000'000)}};
  const auto ends = ByName(metrics)[kName].metric;
  ASSERT_EQ(ends.size(), 2);
  EXPECT_EQ(ends[0].label[0].value, "clients");
  EXPECT_EQ(ends[0].gauge.value, 1'800'000'000);
  EXPECT_EQ(ends[1].label[0].value, "workers");
  EXPECT_EQ(ends[1].gauge.value, 1'900'000'000);
}

TEST(MetricsTest, ObservesTheTimesOfARequest) {
  Metrics metrics([] { return Metrics::Snapshot(); });
  v1::Usage usage;
  usage.set_completion_tokens(3);
  usage.set_time_to_first_token_ms(500);
  usage.add_inter_token_ms(10);
  usage.add_inter_token_ms(30);
  metrics.OnRequestDone(absl::OkStatus(), usage);
  auto families = ByName(metrics);
  const auto& first = families["kvec_time_to_first_token_seconds"].metric.at(0).histogram;
  EXPECT_EQ(first.sample_count, 1);
  EXPECT_DOUBLE_EQ(first.sample_sum, 0.5);
  const auto& others = families["kvec_time_per_output_token_seconds"].metric.at(0).histogram;
  EXPECT_EQ(others.sample_count, 2);
  EXPECT_NEAR(others.sample_sum, 0.04, 1e-6);
}

TEST(MetricsTest, ObservesTheMemoryOfARequest) {
  Metrics metrics([] { return Metrics::Snapshot(); });
  v1::Usage usage;
  usage.set_completion_tokens(1);
  usage.set_logical_kv_bytes(750);
  usage.set_kv_bytes(1000);
  metrics.OnRequestDone(absl::OkStatus(), usage);
  auto families = ByName(metrics);
  const auto sum_of = [&](const char* name) {
    return families[name].metric.at(0).histogram.sample_sum;
  };
  EXPECT_DOUBLE_EQ(sum_of("kvec_request_kv_logical_bytes"), 750);
  EXPECT_DOUBLE_EQ(sum_of("kvec_request_kv_physical_bytes"), 1000);
  EXPECT_DOUBLE_EQ(sum_of("kvec_request_kv_fragmentation_perc"), 0.25);
}

TEST(MetricsTest, CountsFinishedChoicesByReasonAndFailuresByCode) {
  Metrics metrics([] { return Metrics::Snapshot(); });
  metrics.OnChoiceFinished(v1::FINISH_REASON_STOP);
  metrics.OnChoiceFinished(v1::FINISH_REASON_STOP);
  metrics.OnRequestDone(absl::CancelledError("the client left"), v1::Usage());
  auto families = ByName(metrics);
  const prometheus::ClientMetric& success = families["kvec_request_success_total"].metric.at(0);
  EXPECT_EQ(success.counter.value, 2);
  EXPECT_EQ(success.label.at(0).value, "stop");
  const prometheus::ClientMetric& failure = families["kvec_request_failure_total"].metric.at(0);
  EXPECT_EQ(failure.counter.value, 1);
  EXPECT_EQ(failure.label.at(0).value, "CANCELLED");
}

}  // namespace
}  // namespace kvec::coordinator::server
