#ifndef KVEC_COORDINATOR_SERVER_METRICS_H_
#define KVEC_COORDINATOR_SERVER_METRICS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/server/step_metrics.h"
#include "kvec/v1/inference.pb.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace kvec::coordinator::server {

// What /metrics shows. Names are vLLM's with another prefix, so that dashboards need little change.
// Thread-safe.
class Metrics final : public prometheus::Collectable {
 public:
  struct Snapshot {
    struct Replica {
      scheduler::SchedulerCounts counts;
      double kv_cache_usage = 0;  // share of the tightest worker's pages
    };

    scheduler::SchedulerCounts counts;  // of all replicas
    double kv_cache_usage = 0;          // of the fullest one
    std::vector<Replica> replicas;
    int num_workers_ready = 0;
    std::vector<v1::WorkerStatus> workers;  // that are ready
    // When the certificate that a listener shows expires, by listener.
    std::map<std::string, absl::Time> certificate_ends;
  };

  // `snapshot` is asked at every scrape, from the scraping thread.
  explicit Metrics(std::function<Snapshot()> snapshot);

  // A request that was accepted has ended, with this status.
  void OnRequestDone(const absl::Status& status, const v1::Usage& usage);
  // A choice of it has finished.
  void OnChoiceFinished(v1::FinishReason reason);
  // A worker has executed a Step.
  void OnStepResult(const v1::StepResult& result) { steps_.OnStepResult(result); }

  std::vector<prometheus::MetricFamily> Collect() const override;
  // The numbers of this moment.
  Snapshot TakeSnapshot() const { return snapshot_(); }

 private:
  void ObserveEviction(const v1::Usage& usage);
  void ObserveMemory(const v1::Usage& usage);

  const std::function<Snapshot()> snapshot_;
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Counter>& request_success_;
  prometheus::Family<prometheus::Counter>& request_failure_;
  prometheus::Histogram& queue_time_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& time_per_output_token_;
  // Of requests that generated something: what their cache held at the end.
  prometheus::Histogram& logical_bytes_;
  prometheus::Histogram& physical_bytes_;
  prometheus::Histogram& fragmentation_;
  // Of requests whose prompt was evicted from.
  prometheus::Histogram& eviction_time_;
  prometheus::Histogram& coverage_;
  prometheus::Histogram& attention_mass_kept_;
  prometheus::Counter& evicted_tokens_;
  StepMetrics steps_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_METRICS_H_
