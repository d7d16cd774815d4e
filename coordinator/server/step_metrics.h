#ifndef KVEC_COORDINATOR_SERVER_STEP_METRICS_H_
#define KVEC_COORDINATOR_SERVER_STEP_METRICS_H_

#include <map>
#include <string>

#include "kvec/v1/cluster.pb.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace kvec::coordinator::server {

// Where Steps' time goes, on all workers: every Step's as a whole, and of those that workers report
// spans of (one a second) what the spans sum up to. Thread-safe.
class StepMetrics {
 public:
  // `registry` must outlive it.
  explicit StepMetrics(prometheus::Registry& registry);

  void OnStepResult(const v1::StepResult& result);

 private:
  prometheus::Histogram& step_time_;
  prometheus::Histogram& collective_time_;
  std::map<std::string, prometheus::Histogram*> phases_;  // by span name; never changes
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_STEP_METRICS_H_
