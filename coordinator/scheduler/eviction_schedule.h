#ifndef KVEC_COORDINATOR_SCHEDULER_EVICTION_SCHEDULE_H_
#define KVEC_COORDINATOR_SCHEDULER_EVICTION_SCHEDULE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/budget_allocator.h"
#include "kvec/v1/cluster.pb.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// A bound on a prompt's cache exceeds the budget by at least this: chunks are cut where it evicts.
inline constexpr uint32_t kMinPrefillSlackTokens = 64;

// At which positions of a request's sequences their caches are evicted, and down to what. It depends
// on the request alone, so chunks and neighbours change no token, and a replay evicts the same: it
// is fixed when the request is submitted, but for budgets that wait for the prompt's curves.
class EvictionSchedule {
 public:
  static constexpr uint32_t kNever = UINT32_MAX;

  // Nothing is ever evicted.
  EvictionSchedule() = default;
  // Of a resolved policy. INVALID_ARGUMENT for a bound that is too near to the budget, and what the
  // allocator refuses.
  static absl::StatusOr<EvictionSchedule> Make(const v1::CachePolicy& policy,
                                               uint32_t prompt_tokens,
                                               const BudgetAllocator& allocator);

  // The budgets at the prompt's end wait for the curves of its layers, which the Step that ends it
  // is to report at curve_budgets(). A replay knows them.
  bool awaits_curves() const { return num_curves_missing_ > 0; }
  const std::vector<uint32_t>& curve_budgets() const { return curve_budgets_; }
  uint32_t num_curves() const;
  // INTERNAL for a curve that was not asked for. With the last one the budgets are there.
  absl::Status AddCurve(const v1::LayerCurve& curve, const BudgetAllocator& allocator);

  // Before the eviction at the prompt's end the workers read the prompt again.
  bool reads_twice() const { return reads_twice_; }

  // The first position after num_rows at which to evict.
  uint32_t Next(uint32_t num_rows) const;
  // EvictionOrder.layer_budgets of an eviction there; null: there is none.
  const std::vector<uint32_t>* BudgetsAt(uint32_t position) const;

  bool is_empty() const { return !has_prefill() && prompt_budgets_.empty() && decode_interval_ == 0; }
  bool evicts_at_prompt_end() const { return !prompt_budgets_.empty(); }
  // Of the first eviction at the prompt's end or later; empty: there is none.
  const std::vector<uint32_t>& budgets_from_prompt_end() const {
    return evicts_at_prompt_end() ? prompt_budgets_ : decode_budgets_;
  }

  // Evictions inside the prompt: at prefill_bound(), and every prefill_interval() tokens from there.
  bool has_prefill() const { return !prefill_budgets_.empty(); }
  uint32_t prefill_bound() const { return prefill_bound_; }
  uint32_t prefill_interval() const { return prefill_interval_; }
  const std::vector<uint32_t>& prefill_budgets() const { return prefill_budgets_; }

 private:
  absl::Status AddPrefill(const v1::CachePolicy& policy, uint32_t budget,
                          const BudgetAllocator& allocator);
  absl::Status AddDecode(const v1::CachePolicy& policy, uint32_t budget,
                         const BudgetAllocator& allocator);

  uint32_t prompt_tokens_ = 0;
  uint32_t prefill_bound_ = 0;
  uint32_t prefill_interval_ = 0;
  std::vector<uint32_t> prefill_budgets_;  // per layer; empty: not inside the prompt
  std::vector<uint32_t> prompt_budgets_;   // empty: not at its end
  bool reads_twice_ = false;
  std::vector<uint32_t> curve_budgets_;    // empty: budgets do not depend on curves
  std::vector<std::vector<float>> curves_;  // [layers][curve_budgets_]; empty: not there
  uint32_t num_curves_missing_ = 0;
  uint32_t first_decode_ = 0;
  uint32_t decode_interval_ = 0;  // 0: not after it
  std::vector<uint32_t> decode_budgets_;
};

// Entries kept per KV head, the observation window included; 0: the policy names no budget.
uint32_t BudgetTokens(const v1::CachePolicy& policy, uint32_t prompt_tokens);

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_EVICTION_SCHEDULE_H_
