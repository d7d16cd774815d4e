#include "coordinator/budget/layer_budget_allocator.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/eviction_schedule.h"

namespace kvec::coordinator::budget {
namespace {

// The last layer's share of the mean is 1 / kPyramidRatio.
constexpr double kPyramidRatio = 20.0;

// B: entries per KV head, the observation window included.
absl::StatusOr<uint32_t> CheckedBudget(const v1::CachePolicy& policy, uint32_t num_tokens) {
  if (policy.budget_case() == v1::CachePolicy::BUDGET_NOT_SET) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.budget: missing, policy ", policy.policy(), " needs one"));
  }
  const uint32_t budget = scheduler::BudgetTokens(policy, num_tokens);
  if (budget > policy.observation_window()) return budget;
  return absl::InvalidArgumentError(absl::StrCat("cache.budget: ", budget,
                                                 " tokens do not exceed the observation window of ",
                                                 policy.observation_window()));
}

}  // namespace

std::vector<uint32_t> PyramidBudgets(int num_layers, uint32_t base, uint32_t num_candidates) {
  if (num_layers == 1 || base >= num_candidates) {
    return std::vector<uint32_t>(num_layers, std::min(base, num_candidates));
  }
  double low = base / kPyramidRatio;
  double high = 2.0 * base - low;
  if (high > num_candidates) {
    high = num_candidates;
    low = 2.0 * base - high;
  }
  std::vector<uint32_t> budgets;
  for (int layer = 0; layer < num_layers; ++layer) {
    const double budget = high - (high - low) * layer / (num_layers - 1);
    budgets.push_back(static_cast<uint32_t>(std::nearbyint(budget)));
  }
  return budgets;
}

LayerBudgetAllocator::LayerBudgetAllocator(uint32_t num_kv_heads, std::vector<int> sliding_windows)
    : num_kv_heads_(num_kv_heads), sliding_windows_(std::move(sliding_windows)) {}

absl::StatusOr<std::vector<uint32_t>> LayerBudgetAllocator::LayerBudgets(
    const v1::CachePolicy& policy, uint32_t num_tokens) const {
  KVEC_ASSIGN_OR_RETURN(const uint32_t budget, CheckedBudget(policy, num_tokens));
  const uint32_t window = policy.observation_window();
  if (num_tokens <= window || budget >= num_tokens) return std::vector<uint32_t>();
  const int num_evicting =
      static_cast<int>(std::count(sliding_windows_.begin(), sliding_windows_.end(), 0));
  const uint32_t num_candidates = num_tokens - window;
  const uint32_t base = std::min(budget - window, num_candidates);
  std::vector<uint32_t> per_head;
  if (policy.layer_allocation() == "uniform") {
    per_head.assign(num_evicting, base);
  } else if (policy.layer_allocation() == "pyramid") {
    per_head = PyramidBudgets(num_evicting, base, num_candidates);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("cache.layer_allocation: \"",
                                                   policy.layer_allocation(),
                                                   "\"; offered: uniform, pyramid"));
  }
  std::vector<uint32_t> budgets(sliding_windows_.size(), 0);
  auto next = per_head.begin();
  for (size_t layer = 0; layer < budgets.size(); ++layer) {
    if (sliding_windows_[layer] == 0) budgets[layer] = num_kv_heads_ * *next++;
  }
  return budgets;
}

}  // namespace kvec::coordinator::budget
