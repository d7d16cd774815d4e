#include "coordinator/server/cache_policies.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "coordinator/server/quoted.h"

namespace kvec::coordinator::server {
namespace {

struct PolicyEntry {
  absl::string_view name;
  absl::string_view layer_allocation;  // when the request names none
  absl::string_view head_allocation;
  bool has_other_head_allocations = false;
  bool can_read_twice = false;
};

// "full" keeps everything, whatever the budget.
constexpr PolicyEntry kPolicies[] = {
    {"full", "uniform", "uniform"},          {"streaming", "uniform", "uniform"},
    {"snapkv", "uniform", "uniform"},        {"pyramidkv", "pyramid", "uniform"},
    {"adasnapkv", "uniform", "adaptive"},    {"kvec-paper", "uniform", "uniform"},
    {"kvec", "uniform", "adaptive", true, true},
};

// Of requests that name a budget but no policy, where the server has no default either.
constexpr char kPolicyOfBudgets[] = "kvec";

constexpr absl::string_view kLayerAllocations[] = {"uniform", "pyramid", "coverage"};
constexpr absl::string_view kHeadAllocations[] = {"uniform", "adaptive"};

constexpr uint32_t kDefaultObservationWindow = 16;
constexpr uint32_t kDefaultWideWindow = 32;
// The workers keep the queries of the last wide_window prompt tokens of every layer.
constexpr uint32_t kMaxWideWindow = 256;
// Of prefill_bound_tokens and decode_interval_tokens.
constexpr uint32_t kMaxScheduleTokens = 1 << 20;
constexpr uint32_t kMinDecodeInterval = 16;
constexpr float kDefaultLambda = 1;
constexpr float kDefaultBeta = 0.25;

absl::StatusOr<const PolicyEntry*> FindPolicy(absl::string_view name) {
  for (const PolicyEntry& entry : kPolicies) {
    if (entry.name == name) return &entry;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cache.policy: ", Quoted(name),
                   " is unknown; known: ", absl::StrJoin(CachePolicyNames(), ", ")));
}

template <typename Names>
absl::Status CheckName(absl::string_view field, absl::string_view name, const Names& known) {
  for (absl::string_view entry : known) {
    if (entry == name) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "cache.", field, ": ", Quoted(name), " is unknown; known: ", absl::StrJoin(known, ", ")));
}

// NaN is outside every range.
absl::Status CheckRange(absl::string_view field, float value, float min, float max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cache.", field, ": ", value, " is outside [", min, ", ", max, "]"));
}

absl::Status CheckBudget(const v1::CachePolicy& policy) {
  switch (policy.budget_case()) {
    case v1::CachePolicy::kBudgetTokens:
      if (policy.budget_tokens() > 0) return absl::OkStatus();
      return absl::InvalidArgumentError("cache.budget_tokens: 0, at least 1 is needed");
    case v1::CachePolicy::kBudgetShare:
      if (policy.budget_share() > 0 && policy.budget_share() <= 1) return absl::OkStatus();
      return absl::InvalidArgumentError(
          absl::StrCat("cache.budget_share: ", policy.budget_share(), " is outside (0, 1]"));
    case v1::CachePolicy::BUDGET_NOT_SET:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status CheckHeadAllocation(const PolicyEntry& entry, absl::string_view allocation) {
  KVEC_RETURN_IF_ERROR(CheckName("head_allocation", allocation, kHeadAllocations));
  if (entry.has_other_head_allocations || allocation == entry.head_allocation) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("cache.head_allocation: ", Quoted(allocation),
                                                 ", policy ", entry.name, " has only ",
                                                 entry.head_allocation));
}

// Found out when a request comes, it would be every request's error.
absl::Status CheckHasBudget(const v1::CachePolicy& policy) {
  if (policy.policy() == "full" || policy.budget_case() != v1::CachePolicy::BUDGET_NOT_SET) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cache.budget: missing, policy ", policy.policy(), " needs one"));
}

absl::Status CheckWindows(const v1::CachePolicy& policy) {
  if (policy.wide_window() < 1 || policy.wide_window() > kMaxWideWindow) {
    return absl::InvalidArgumentError(absl::StrCat("cache.wide_window: ", policy.wide_window(),
                                                   " is outside [1, ", kMaxWideWindow, "]"));
  }
  if (policy.observation_window() < 1 || policy.observation_window() > policy.wide_window()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.observation_window: ", policy.observation_window(),
                     " is outside [1, wide_window = ", policy.wide_window(), "]"));
  }
  return absl::OkStatus();
}

// A schedule of evictions that no policy would carry out is a misunderstanding.
absl::Status CheckSchedule(absl::string_view field, uint32_t value, uint32_t min,
                           const v1::CachePolicy& policy) {
  if (value == 0) return absl::OkStatus();
  if (policy.policy() == "full") {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.", field, ": ", value, ", policy full evicts nothing"));
  }
  if (value >= min && value <= kMaxScheduleTokens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cache.", field, ": ", value, " is neither 0 nor in [",
                                                 min, ", ", kMaxScheduleTokens, "]"));
}

absl::Status CheckLayerAllocation(const v1::CachePolicy& policy) {
  const std::string& allocation = policy.layer_allocation();
  KVEC_RETURN_IF_ERROR(CheckName("layer_allocation", allocation, kLayerAllocations));
  if (allocation != "coverage" || policy.policy() != "streaming") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cache.layer_allocation: ", Quoted(allocation),
                                                 ", policy streaming scores nothing"));
}

absl::Status CheckSecondReading(const PolicyEntry& entry, const v1::CachePolicy& policy) {
  if (!policy.second_reading()) return absl::OkStatus();
  if (!entry.can_read_twice) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.second_reading: policy ", entry.name, " does not have it"));
  }
  if (policy.layer_allocation() == "coverage") {
    return absl::InvalidArgumentError(
        "cache.second_reading: not with layer_allocation coverage, whose curves come before it");
  }
  if (policy.prefill_bound_tokens() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cache.second_reading: not with prefill_bound_tokens = ",
                   policy.prefill_bound_tokens(), ", which holds a part of the prompt only"));
}

}  // namespace

std::vector<std::string> CachePolicyNames() {
  std::vector<std::string> names;
  for (const PolicyEntry& entry : kPolicies) names.emplace_back(entry.name);
  return names;
}

absl::StatusOr<v1::CachePolicy> ResolveCachePolicy(const v1::CachePolicy& requested,
                                                   const v1::CachePolicy& defaults) {
  v1::CachePolicy policy = defaults;
  if (!requested.policy().empty() && requested.policy() != defaults.policy()) {
    // Of another policy's defaults only the budget and when to evict mean the same.
    policy.Clear();
    if (defaults.has_budget_tokens()) policy.set_budget_tokens(defaults.budget_tokens());
    if (defaults.has_budget_share()) policy.set_budget_share(defaults.budget_share());
    policy.set_prefill_bound_tokens(defaults.prefill_bound_tokens());
    policy.set_decode_interval_tokens(defaults.decode_interval_tokens());
  }
  // Merging replaces what the request sets, a budget of either kind included.
  policy.MergeFrom(requested);
  if (policy.policy().empty()) {
    const bool has_budget = policy.budget_case() != v1::CachePolicy::BUDGET_NOT_SET;
    policy.set_policy(has_budget ? kPolicyOfBudgets : "full");
  }
  KVEC_ASSIGN_OR_RETURN(const PolicyEntry* entry, FindPolicy(policy.policy()));
  if (policy.policy() == "full") {
    // The server's defaults are for those who evict.
    if (!requested.has_prefill_bound_tokens()) policy.clear_prefill_bound_tokens();
    if (!requested.has_decode_interval_tokens()) policy.clear_decode_interval_tokens();
  }
  if (policy.layer_allocation().empty()) {
    policy.set_layer_allocation(std::string(entry->layer_allocation));
  }
  if (policy.head_allocation().empty()) {
    policy.set_head_allocation(std::string(entry->head_allocation));
  }
  if (!policy.has_wide_window()) policy.set_wide_window(kDefaultWideWindow);
  if (!policy.has_observation_window()) policy.set_observation_window(kDefaultObservationWindow);
  if (!policy.has_lambda()) policy.set_lambda(kDefaultLambda);
  if (!policy.has_beta()) policy.set_beta(kDefaultBeta);

  KVEC_RETURN_IF_ERROR(CheckLayerAllocation(policy));
  KVEC_RETURN_IF_ERROR(CheckSecondReading(*entry, policy));
  KVEC_RETURN_IF_ERROR(CheckHeadAllocation(*entry, policy.head_allocation()));
  KVEC_RETURN_IF_ERROR(CheckHasBudget(policy));
  KVEC_RETURN_IF_ERROR(CheckBudget(policy));
  KVEC_RETURN_IF_ERROR(CheckWindows(policy));
  KVEC_RETURN_IF_ERROR(
      CheckSchedule("prefill_bound_tokens", policy.prefill_bound_tokens(), 1, policy));
  KVEC_RETURN_IF_ERROR(CheckSchedule("decode_interval_tokens", policy.decode_interval_tokens(),
                                     kMinDecodeInterval, policy));
  KVEC_RETURN_IF_ERROR(CheckRange("lambda", policy.lambda(), 0, 100));
  KVEC_RETURN_IF_ERROR(CheckRange("beta", policy.beta(), 0, 1));
  return policy;
}

}  // namespace kvec::coordinator::server
