#ifndef KVEC_COORDINATOR_CLUSTER_MEMORY_PLAN_H_
#define KVEC_COORDINATOR_CLUSTER_MEMORY_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/cluster/model_outline.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/cluster/worker_memory.h"

namespace kvec::coordinator::cluster {

struct PlanOptions {
  MemoryOptions memory;
  uint32_t answer_tokens = 0;  // of memory.context_tokens
  // Entries per KV head that a prompt's eviction leaves, as a mean; none: everything is kept.
  std::optional<uint32_t> budget_tokens;
};

// What a group of GPUs would hold of a model, and how many requests.
struct MemoryPlan {
  ParallelShape shape;
  std::vector<WorkerMemory> workers;  // stage-major
  // Requests of context_tokens side by side, on the tightest worker.
  uint64_t num_full = 0;     // nothing evicted
  uint64_t num_evicted = 0;  // all evicted to the budget but one, whose prompt is being read

  size_t tightest_worker = 0;  // holds the fewest requests
  // Of its pages, what a request takes while its prompt is read, and when it is evicted.
  uint64_t request_pages = 0;
  uint64_t evicted_request_pages = 0;

  const WorkerMemory& tightest() const { return workers[tightest_worker]; }
  // Whether one request fits.
  bool fits() const { return num_full > 0; }
};

// Places the model as the coordinator would (PlaceWorkers) and counts as its scheduler would
// (PageDemand). INVALID_ARGUMENT when the model can't be divided like this.
absl::StatusOr<MemoryPlan> PlanMemory(const ModelOutline& outline, const ParallelShape& shape,
                                      const PlanOptions& options);

// The plan of the fewest GPUs on which a request fits: of as many, that of the most ranks, which
// are at most max_ranks (a host's GPUs) and divide the query heads. RESOURCE_EXHAUSTED when there
// is none of up to kMaxPlannedGpus.
inline constexpr int kMaxPlannedGpus = 128;
absl::StatusOr<MemoryPlan> SmallestPlan(const ModelOutline& outline, int max_ranks,
                                        const PlanOptions& options);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_MEMORY_PLAN_H_
