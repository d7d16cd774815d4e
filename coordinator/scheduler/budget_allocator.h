#ifndef KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_
#define KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// Decides how many entries of a sequence each layer keeps. The scheduler asks when a request is
// submitted, records the answers (EvictionSchedule), and orders the same evictions whenever the
// sequence is replayed. Called with the scheduler's lock held: must not block and must not call the scheduler.
class BudgetAllocator {
 public:
  virtual ~BudgetAllocator() = default;

  // Entries per layer over all its KV heads, without the window, indexed by the model's layer
  // (EvictionOrder.layer_budgets); empty when `policy` keeps all num_tokens. INVALID_ARGUMENT for
  // a policy that it does not know. `policy` is resolved and not "full"; a budget_share is one of
  // num_tokens.
  virtual absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                             uint32_t num_tokens) const = 0;

  // For a policy whose layers get their budgets by what they would keep: at which budgets to ask
  // for their curves (SequenceWork.curve_budgets). `layer_budgets` are the ones above, which have
  // the same sum. Empty for every other policy.
  virtual std::vector<uint32_t> CurveBudgets(const v1::CachePolicy& policy,
                                             const std::vector<uint32_t>& layer_budgets,
                                             uint32_t num_tokens) const {
    return {};
  }

  // The budgets by their curves, [layers][curve_budgets], empty for a layer that does not evict.
  virtual std::vector<uint32_t> BudgetsByCurves(
      const std::vector<uint32_t>& layer_budgets, const std::vector<uint32_t>& curve_budgets,
      const std::vector<std::vector<float>>& curves) const {
    return layer_budgets;
  }
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_BUDGET_ALLOCATOR_H_
