#ifndef KVEC_COORDINATOR_BUDGET_LAYER_BUDGET_ALLOCATOR_H_
#define KVEC_COORDINATOR_BUDGET_LAYER_BUDGET_ALLOCATOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/scheduler/budget_allocator.h"

namespace kvec::coordinator::budget {

// Every layer gets the same (`uniform`), or budgets fall linearly from the first layer to the last
// (`pyramid`: Cai et al., "PyramidKV"), or they go where they keep the most (`coverage`), once the
// prompt has run and the layers have told their curves. Their sum never exceeds the request's
// budget times the evicting layers. Immutable.
class LayerBudgetAllocator : public scheduler::BudgetAllocator {
 public:
  // sliding_windows: [layers of the model], 0 for full attention; only such layers evict.
  LayerBudgetAllocator(uint32_t num_kv_heads, std::vector<int> sliding_windows);

  // INVALID_ARGUMENT when no budget is set, when it does not exceed the observation window, and for
  // a layer allocation that is not offered.
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy& policy,
                                                     uint32_t num_tokens) const override;
  std::vector<uint32_t> CurveBudgets(const v1::CachePolicy& policy,
                                     const std::vector<uint32_t>& layer_budgets,
                                     uint32_t num_tokens) const override;
  std::vector<uint32_t> BudgetsByCurves(
      const std::vector<uint32_t>& layer_budgets, const std::vector<uint32_t>& curve_budgets,
      const std::vector<std::vector<float>>& curves) const override;

 private:
  const uint32_t num_kv_heads_;
  const std::vector<int> sliding_windows_;
};

// Selected entries per KV head in each of num_layers evicting layers: linear from the first to the
// last with mean `base`, at most `num_candidates` (KVEC.md; the ratio of ends is PyramidKV's).
// Rounded half to even.
std::vector<uint32_t> PyramidBudgets(int num_layers, uint32_t base, uint32_t num_candidates);

}  // namespace kvec::coordinator::budget

#endif  // KVEC_COORDINATOR_BUDGET_LAYER_BUDGET_ALLOCATOR_H_
