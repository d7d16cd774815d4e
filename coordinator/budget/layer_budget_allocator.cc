#include "coordinator/budget/layer_budget_allocator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/eviction_schedule.h"

namespace kvec::coordinator::budget {
namespace {

// The last layer's share of the mean is 1 / kPyramidRatio.
constexpr double kPyramidRatio = 20.0;

constexpr char kCoverage[] = "coverage";

// Of a uniform budget: what every layer keeps at least, the steps in which curves are sampled, and
// up to where, before the distances double.
constexpr double kFloorShare = 0.5;
constexpr double kSampleStep = 0.125;
constexpr double kFineSamples = 4.0;

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
  if (policy.layer_allocation() == "uniform" || policy.layer_allocation() == kCoverage) {
    per_head.assign(num_evicting, base);
  } else if (policy.layer_allocation() == "pyramid") {
    per_head = PyramidBudgets(num_evicting, base, num_candidates);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("cache.layer_allocation: \"",
                                                   policy.layer_allocation(),
                                                   "\"; offered: uniform, pyramid, coverage"));
  }
  std::vector<uint32_t> budgets(sliding_windows_.size(), 0);
  auto next = per_head.begin();
  for (size_t layer = 0; layer < budgets.size(); ++layer) {
    if (sliding_windows_[layer] == 0) budgets[layer] = num_kv_heads_ * *next++;
  }
  return budgets;
}

std::vector<uint32_t> LayerBudgetAllocator::CurveBudgets(const v1::CachePolicy& policy,
                                                         const std::vector<uint32_t>& layer_budgets,
                                                         uint32_t num_tokens) const {
  if (policy.layer_allocation() != kCoverage || layer_budgets.empty()) return {};
  const uint32_t uniform = *std::max_element(layer_budgets.begin(), layer_budgets.end());
  const uint32_t all = num_kv_heads_ * (num_tokens - policy.observation_window());
  std::vector<uint32_t> budgets;
  const double step = std::max(1.0, kSampleStep * uniform);
  for (double budget = kFloorShare * uniform; budget < all;) {
    budgets.push_back(static_cast<uint32_t>(budget));
    budget += budget < kFineSamples * uniform ? step : budget;
  }
  budgets.push_back(all);
  return budgets;
}

// Curves are concave, so taking the steepest segment next is optimal.
std::vector<uint32_t> LayerBudgetAllocator::BudgetsByCurves(
    const std::vector<uint32_t>& layer_budgets, const std::vector<uint32_t>& curve_budgets,
    const std::vector<std::vector<float>>& curves) const {
  struct Segment {
    double gain = 0;  // per entry
    size_t layer = 0;
    size_t end = 0;  // index of curve_budgets
    bool operator<(const Segment& other) const {
      return std::tie(gain, other.layer) < std::tie(other.gain, layer);
    }
  };
  std::vector<uint32_t> budgets(layer_budgets.size(), 0);
  std::priority_queue<Segment> segments;
  const auto push = [&](size_t layer, size_t end) {
    if (end == curve_budgets.size()) return;
    const double entries = curve_budgets[end] - curve_budgets[end - 1];
    segments.push({(curves[layer][end] - curves[layer][end - 1]) / entries, layer, end});
  };
  uint64_t left = std::accumulate(layer_budgets.begin(), layer_budgets.end(), uint64_t{0});
  for (size_t layer = 0; layer < budgets.size(); ++layer) {
    if (curves[layer].empty()) continue;
    budgets[layer] = std::min(curve_budgets.front(), layer_budgets[layer]);
    left -= budgets[layer];
    push(layer, 1);
  }
  while (left > 0 && !segments.empty()) {
    const Segment segment = segments.top();
    segments.pop();
    const uint64_t wanted = curve_budgets[segment.end] - budgets[segment.layer];
    const uint64_t given = std::min(wanted, left);
    budgets[segment.layer] += static_cast<uint32_t>(given);
    left -= given;
    push(segment.layer, segment.end + 1);
  }
  return budgets;
}

}  // namespace kvec::coordinator::budget
