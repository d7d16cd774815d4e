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
  // A worker's report; num_kv_heads are those of a layer, wherever they are.
  void Add(uint32_t worker, uint32_t num_kv_heads, const v1::EvictionReport& report);

  // Fills what the reports tell: coverage, evicted tokens, time, and the layers. Without a report
  // everything was kept.
  void Fill(v1::Usage& usage) const;

 private:
  struct OfWorker {
    v1::EvictionReport report;
    // Of all its reports.
    double eviction_ms = 0;
    uint64_t exchanged_bytes = 0;
    double exchange_ms = 0;
  };

  // By layer, its heads wherever they are.
  std::map<uint32_t, v1::LayerCacheUsage> MergeLayers() const;
  uint32_t CountKeptTokens() const;

  uint32_t num_kv_heads_ = 0;
  std::map<uint32_t, OfWorker> workers_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_EVICTION_SUMMARY_H_
