#include "coordinator/server/step_metrics.h"

#include <map>
#include <string>

#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

class StepMetricsTest : public testing::Test {
 protected:
  static void AddSpan(v1::StepResult& result, const char* name, int64_t ms) {
    v1::TraceSpan& span = *result.add_spans();
    span.set_name(name);
    span.set_duration_ns(ms * 1'000'000);
  }

  // By the label phase, where there is one.
  std::map<std::string, prometheus::ClientMetric::Histogram> Collect(const std::string& name) {
    std::map<std::string, prometheus::ClientMetric::Histogram> found;
    for (const prometheus::MetricFamily& family : registry_.Collect()) {
      if (family.name != name) continue;
      for (const prometheus::ClientMetric& metric : family.metric) {
        found[metric.label.empty() ? "" : metric.label[0].value] = metric.histogram;
      }
    }
    return found;
  }

  prometheus::Registry registry_;
  StepMetrics metrics_{registry_};
};

TEST_F(StepMetricsTest, ObservesEveryStepsTime) {
  v1::StepResult result;
  result.set_execute_ms(20);
  metrics_.OnStepResult(result);
  result.set_execute_ms(30);
  metrics_.OnStepResult(result);
  const auto times = Collect("kvec_step_time_seconds");
  EXPECT_EQ(times.at("").sample_count, 2);
  EXPECT_DOUBLE_EQ(times.at("").sample_sum, 0.05);
  EXPECT_EQ(Collect("kvec_step_collective_time_seconds").at("").sample_count, 0);
}

TEST_F(StepMetricsTest, SumsTheSpansOfAPhaseAndOfAllThatIsBetweenWorkers) {
  v1::StepResult result;
  AddSpan(result, "step", 40);
  AddSpan(result, "layers", 30);
  for (int layer = 0; layer < 5; ++layer) AddSpan(result, "all-reduce", 2);
  AddSpan(result, "gather logits", 1);
  AddSpan(result, "await tokens", 4);
  metrics_.OnStepResult(result);
  const auto phases = Collect("kvec_step_phase_time_seconds");
  EXPECT_DOUBLE_EQ(phases.at("layers").sample_sum, 0.030);
  EXPECT_DOUBLE_EQ(phases.at("all-reduce").sample_sum, 0.010);
  EXPECT_EQ(phases.at("all-reduce").sample_count, 1);
  EXPECT_EQ(phases.at("sample").sample_count, 0);
  EXPECT_DOUBLE_EQ(Collect("kvec_step_collective_time_seconds").at("").sample_sum, 0.015);
}

TEST_F(StepMetricsTest, MakesNoLabelOfWhatItDoesNotKnow) {
  const size_t known = Collect("kvec_step_phase_time_seconds").size();
  v1::StepResult result;
  AddSpan(result, "made up by a worker", 1);
  metrics_.OnStepResult(result);
  EXPECT_EQ(Collect("kvec_step_phase_time_seconds").size(), known);
}

}  // namespace
}  // namespace kvec::coordinator::server
