#ifndef KVEC_COORDINATOR_SCHEDULER_EVICTION_SUMMARY_H_
#define KVEC_COORDINATOR_SCHEDULER_EVICTION_SUMMARY_H_

#include <cstdint>
#include <map>
#include <string>

#include "kvec/v1/cluster.pb.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// What a request's evictions kept, out of the reports of all workers that hold a part of it. Each
// eviction's reports take the place of those before it, a replay's too.
class EvictionSummary {
 public:
  // A worker's report; num_kv_heads are the heads that the worker holds of each layer.
  void Add(uint32_t worker, uint32_t num_kv_heads, const v1::EvictionReport& report);

  // Fills what the reports tell: coverage, evicted tokens, time, and the layers. Without a report
  // everything was kept.
  void Fill(v1::Usage& usage) const;

 private:
  struct OfWorker {
    uint32_t num_kv_heads = 0;
    v1::EvictionReport report;
    double eviction_ms = 0;  // of all its reports
  };
  // One layer, its heads wherever they are.
  struct OfLayer {
    v1::LayerCacheUsage usage;
    uint32_t num_kv_heads = 0;
  };

  std::map<uint32_t, OfLayer> MergeLayers() const;
  uint32_t CountKeptTokens() const;

  std::map<uint32_t, OfWorker> workers_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_EVICTION_SUMMARY_H_
