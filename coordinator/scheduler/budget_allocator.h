#ifndef KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_
#define KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// Decides how many entries of a prompt each layer keeps. The scheduler asks once per request, when
// it is submitted, records the answer, and orders the same eviction whenever the prompt is
// replayed. Called with the scheduler's lock held: must not block and must not call the scheduler.
class BudgetAllocator {
 public:
  virtual ~BudgetAllocator() = default;

  // Entries per layer over all its KV heads, without the window, indexed by the model's layer
  // (EvictionOrder.layer_budgets); empty when `policy` keeps the whole prompt. INVALID_ARGUMENT for
  // a policy that it does not know. `policy` is resolved and not "full".
  virtual absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                             uint32_t prompt_tokens) const = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_
