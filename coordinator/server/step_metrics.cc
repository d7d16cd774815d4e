#include "coordinator/server/step_metrics.h"

#include <set>

namespace kvec::coordinator::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kTimeBuckets = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                              0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};

// Spans that a worker may report (docs/operation.md); others are no labels. Some are inside others.
constexpr const char* kPhases[] = {"layers",   "head",   "sample",
                                   "eviction", "curves", "second reading"};
// Waiting for peers, or exchanging with them.
constexpr const char* kCollectives[] = {"all-reduce", "gather logits", "exchange",    "send",
                                        "receive",    "share tokens",  "await tokens"};

prometheus::Family<prometheus::Histogram>& AddFamily(prometheus::Registry& registry,
                                                     const std::string& name,
                                                     const std::string& help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

}  // namespace

StepMetrics::StepMetrics(prometheus::Registry& registry)
    : step_time_(AddFamily(registry, "kvec_step_time_seconds",
                           "Execution of one Step on one worker, waiting for its peers included")
                     .Add({}, kTimeBuckets)),
      collective_time_(AddFamily(registry, "kvec_step_collective_time_seconds",
                                 "What one worker spends on its peers in one Step, waiting "
                                 "included; of one Step a second")
                           .Add({}, kTimeBuckets)) {
  auto& family = AddFamily(registry, "kvec_step_phase_time_seconds",
                           "A phase of one Step on one worker, with what is inside it; of one Step "
                           "a second");
  for (const char* phase : kPhases) {
    phases_[phase] = &family.Add({{"phase", phase}}, kTimeBuckets);
  }
  for (const char* phase : kCollectives) {
    phases_[phase] = &family.Add({{"phase", phase}}, kTimeBuckets);
  }
}

void StepMetrics::OnStepResult(const v1::StepResult& result) {
  static const std::set<std::string> kIsCollective(std::begin(kCollectives),
                                                   std::end(kCollectives));
  step_time_.Observe(result.execute_ms() / 1000);
  if (result.spans().empty()) return;
  std::map<std::string, double> seconds;
  double collective_seconds = 0;
  for (const v1::TraceSpan& span : result.spans()) {
    const double duration = static_cast<double>(span.duration_ns()) * 1e-9;
    seconds[span.name()] += duration;
    if (kIsCollective.count(span.name()) > 0) collective_seconds += duration;
  }
  collective_time_.Observe(collective_seconds);
  for (const auto& [name, duration] : seconds) {
    const auto phase = phases_.find(name);
    if (phase != phases_.end()) phase->second->Observe(duration);
  }
}

}  // namespace kvec::coordinator::server
