#include "coordinator/scheduler/eviction_schedule.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::scheduler {
namespace {

// Of the room between the budget and the bound, what an eviction inside the prompt makes free: the
// less, the better it keeps what the question will ask for, and the oftener chunks are cut.
constexpr double kPrefillFreedShare = 0.25;

// No sequence is longer; such a budget holds everything.
constexpr uint32_t kMaxTokens = 1u << 24;

// The same policy with a budget of so many tokens.
v1::CachePolicy WithBudget(v1::CachePolicy policy, uint32_t budget_tokens) {
  policy.set_budget_tokens(budget_tokens);
  return policy;
}

}  // namespace

uint32_t BudgetTokens(const v1::CachePolicy& policy, uint32_t prompt_tokens) {
  if (!policy.has_budget_share()) return policy.budget_tokens();
  return static_cast<uint32_t>(
      std::ceil(static_cast<double>(policy.budget_share()) * prompt_tokens));
}

absl::StatusOr<EvictionSchedule> EvictionSchedule::Make(const v1::CachePolicy& policy,
                                                        uint32_t prompt_tokens,
                                                        const BudgetAllocator& allocator) {
  EvictionSchedule schedule;
  schedule.prompt_tokens_ = prompt_tokens;
  KVEC_ASSIGN_OR_RETURN(schedule.prompt_budgets_, allocator.LayerBudgets(policy, prompt_tokens));
  schedule.reads_twice_ = policy.second_reading() && schedule.evicts_at_prompt_end();
  schedule.curve_budgets_ =
      allocator.CurveBudgets(policy, schedule.prompt_budgets_, prompt_tokens);
  if (!schedule.curve_budgets_.empty()) {
    schedule.curves_.resize(schedule.prompt_budgets_.size());
    schedule.num_curves_missing_ = schedule.num_curves();
  }
  const uint32_t budget = BudgetTokens(policy, prompt_tokens);
  if (policy.prefill_bound_tokens() > 0) {
    KVEC_RETURN_IF_ERROR(schedule.AddPrefill(policy, budget, allocator));
  }
  if (policy.decode_interval_tokens() > 0) {
    KVEC_RETURN_IF_ERROR(schedule.AddDecode(policy, budget, allocator));
  }
  return schedule;
}

uint32_t EvictionSchedule::num_curves() const {
  const auto num_full_layers = std::count_if(prompt_budgets_.begin(), prompt_budgets_.end(),
                                             [](uint32_t budget) { return budget > 0; });
  return curve_budgets_.empty() ? 0 : static_cast<uint32_t>(num_full_layers);
}

absl::Status EvictionSchedule::AddCurve(const v1::LayerCurve& curve,
                                        const BudgetAllocator& allocator) {
  const uint32_t layer = curve.layer();
  const auto& shares = curve.kept_share();
  if (layer >= curves_.size() || prompt_budgets_[layer] == 0 ||
      static_cast<size_t>(shares.size()) != curve_budgets_.size() ||
      !std::all_of(shares.begin(), shares.end(), [](float share) { return std::isfinite(share); })) {
    return absl::InternalError(absl::StrCat("curve of layer ", layer, " with ", shares.size(),
                                            " shares was not asked for"));
  }
  if (!awaits_curves()) return absl::OkStatus();  // of a sequence that was preempted since
  if (curves_[layer].empty()) --num_curves_missing_;
  curves_[layer].assign(shares.begin(), shares.end());
  if (awaits_curves()) return absl::OkStatus();
  prompt_budgets_ = allocator.BudgetsByCurves(prompt_budgets_, curve_budgets_, curves_);
  if (decode_interval_ > 0) decode_budgets_ = prompt_budgets_;
  return absl::OkStatus();
}

absl::Status EvictionSchedule::AddPrefill(const v1::CachePolicy& policy, uint32_t budget,
                                          const BudgetAllocator& allocator) {
  const uint32_t bound = policy.prefill_bound_tokens();
  if (uint64_t{budget} + kMinPrefillSlackTokens > bound) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.prefill_bound_tokens: ", bound, ", must exceed the budget of ", budget,
                     " tokens by at least ", kMinPrefillSlackTokens));
  }
  if (prompt_tokens_ <= bound) return absl::OkStatus();
  prefill_bound_ = bound;
  const double freed = kPrefillFreedShare * (bound - budget);
  prefill_interval_ = std::max(kMinPrefillSlackTokens, static_cast<uint32_t>(freed));
  KVEC_ASSIGN_OR_RETURN(
      prefill_budgets_,
      allocator.LayerBudgets(WithBudget(policy, bound - prefill_interval_), bound));
  return absl::OkStatus();
}

absl::Status EvictionSchedule::AddDecode(const v1::CachePolicy& policy, uint32_t budget,
                                         const BudgetAllocator& allocator) {
  if (budget >= kMaxTokens) return absl::OkStatus();
  decode_interval_ = policy.decode_interval_tokens();
  first_decode_ = prompt_tokens_ + decode_interval_;
  if (prompt_budgets_.empty() && budget >= first_decode_) {
    // The first multiple of the interval at which there are more entries than the budget.
    first_decode_ += ((budget - first_decode_) / decode_interval_ + 1) * decode_interval_;
  }
  KVEC_ASSIGN_OR_RETURN(
      decode_budgets_,
      allocator.LayerBudgets(WithBudget(policy, budget), budget + decode_interval_));
  return absl::OkStatus();
}

uint32_t EvictionSchedule::Next(uint32_t num_rows) const {
  if (has_prefill()) {
    const uint32_t position =
        num_rows < prefill_bound_
            ? prefill_bound_
            : num_rows + prefill_interval_ - (num_rows - prefill_bound_) % prefill_interval_;
    if (position < prompt_tokens_) return position;
  }
  if (evicts_at_prompt_end() && num_rows < prompt_tokens_) return prompt_tokens_;
  if (decode_interval_ == 0) return kNever;
  if (num_rows < first_decode_) return first_decode_;
  return num_rows + decode_interval_ - (num_rows - first_decode_) % decode_interval_;
}

const std::vector<uint32_t>* EvictionSchedule::BudgetsAt(uint32_t position) const {
  if (position == 0 || Next(position - 1) != position) return nullptr;
  if (position < prompt_tokens_) return &prefill_budgets_;
  return position == prompt_tokens_ ? &prompt_budgets_ : &decode_budgets_;
}

}  // namespace kvec::coordinator::scheduler
