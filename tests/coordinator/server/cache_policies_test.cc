#include "coordinator/server/cache_policies.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

v1::CachePolicy Defaults() {
  v1::CachePolicy policy;
  policy.set_policy("full");
  policy.set_budget_tokens(256);
  policy.set_observation_window(8);
  return policy;
}

TEST(CachePoliciesTest, TakesTheServersDefaultsForUnsetFields) {
  const absl::StatusOr<v1::CachePolicy> policy = ResolveCachePolicy(v1::CachePolicy(), Defaults());
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->policy(), "full");
  EXPECT_EQ(policy->budget_tokens(), 256);
  EXPECT_EQ(policy->observation_window(), 8);
}

TEST(CachePoliciesTest, ARequestsBudgetReplacesTheDefaultOneOfTheOtherKind) {
  v1::CachePolicy requested;
  requested.set_budget_share(0.5);
  const absl::StatusOr<v1::CachePolicy> policy = ResolveCachePolicy(requested, Defaults());
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_FALSE(policy->has_budget_tokens());
  EXPECT_EQ(policy->budget_share(), 0.5);
}

TEST(CachePoliciesTest, LeavesNoFieldThatWorkersReadUnset) {
  v1::CachePolicy requested;
  requested.set_policy("full");
  const absl::StatusOr<v1::CachePolicy> policy = ResolveCachePolicy(requested, v1::CachePolicy());
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->observation_window(), 16);
  EXPECT_EQ(policy->wide_window(), 32);
  EXPECT_EQ(policy->lambda(), 1);
  EXPECT_EQ(policy->beta(), 0.25);
  EXPECT_EQ(policy->layer_allocation(), "uniform");
  EXPECT_EQ(policy->head_allocation(), "uniform");
}

TEST(CachePoliciesTest, ABudgetAloneAsksForKvecAndNoBudgetForEverything) {
  v1::CachePolicy requested;
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy())->policy(), "full");
  requested.set_budget_tokens(128);
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy())->policy(), "kvec");
}

TEST(CachePoliciesTest, RefusesAPolicyThatEvictsWithoutABudget) {
  v1::CachePolicy requested;
  requested.set_policy("snapkv");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy()).status(),
            absl::InvalidArgumentError("cache.budget: missing, policy snapkv needs one"));
  EXPECT_TRUE(ResolveCachePolicy(requested, Defaults()).ok()) << "the server's budget counts";
}

TEST(CachePoliciesTest, EachPolicyHasItsOwnAllocations) {
  v1::CachePolicy requested;
  requested.set_budget_tokens(128);
  requested.set_policy("pyramidkv");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy())->layer_allocation(), "pyramid");
  requested.set_policy("adasnapkv");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy())->head_allocation(), "adaptive");
  requested.set_policy("kvec");
  requested.set_head_allocation("uniform");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy())->head_allocation(), "uniform");
  requested.set_policy("snapkv");
  requested.set_head_allocation("adaptive");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy()).status(),
            absl::InvalidArgumentError(
                "cache.head_allocation: \"adaptive\", policy snapkv has only uniform"));
}

TEST(CachePoliciesTest, ChecksWhenToEvict) {
  v1::CachePolicy requested;
  requested.set_policy("kvec");
  requested.set_budget_tokens(128);
  requested.set_prefill_bound_tokens(512);
  requested.set_decode_interval_tokens(16);
  EXPECT_TRUE(ResolveCachePolicy(requested, v1::CachePolicy()).ok());
  requested.set_decode_interval_tokens(15);
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy()).status(),
            absl::InvalidArgumentError(
                "cache.decode_interval_tokens: 15 is neither 0 nor in [16, 1048576]"));
  requested.set_decode_interval_tokens(0);
  requested.set_policy("full");
  EXPECT_EQ(ResolveCachePolicy(requested, v1::CachePolicy()).status(),
            absl::InvalidArgumentError(
                "cache.prefill_bound_tokens: 512, policy full evicts nothing"));
}

TEST(CachePoliciesTest, RefusesASecondReadingThatNothingWouldComeOf) {
  v1::CachePolicy requested;
  requested.set_policy("kvec");
  requested.set_budget_tokens(64);
  requested.set_second_reading(true);
  EXPECT_TRUE(ResolveCachePolicy(requested, v1::CachePolicy()).ok());
  const auto is_refused = [](const v1::CachePolicy& policy) {
    const absl::Status status = ResolveCachePolicy(policy, v1::CachePolicy()).status();
    return absl::IsInvalidArgument(status) &&
           absl::StrContains(status.message(), "cache.second_reading");
  };
  v1::CachePolicy other = requested;
  other.set_policy("snapkv");
  EXPECT_TRUE(is_refused(other));
  other.set_policy("full");
  EXPECT_TRUE(is_refused(other));
  other = requested;
  other.set_layer_allocation("coverage");
  EXPECT_TRUE(is_refused(other));
  other = requested;
  other.set_prefill_bound_tokens(512);
  EXPECT_TRUE(is_refused(other));
}

TEST(CachePoliciesTest, RefusesCurvesOfAPolicyThatScoresNothing) {
  v1::CachePolicy requested;
  requested.set_policy("streaming");
  requested.set_budget_tokens(64);
  requested.set_layer_allocation("coverage");
  EXPECT_TRUE(absl::IsInvalidArgument(ResolveCachePolicy(requested, v1::CachePolicy()).status()));
  requested.set_policy("snapkv");
  EXPECT_TRUE(ResolveCachePolicy(requested, v1::CachePolicy()).ok());
}

TEST(CachePoliciesTest, EvictsAnotherPolicyWhenTheServerDoesByDefault) {
  v1::CachePolicy defaults = Defaults();
  defaults.set_prefill_bound_tokens(1024);
  v1::CachePolicy requested;
  requested.set_policy("streaming");
  EXPECT_EQ(ResolveCachePolicy(requested, defaults)->prefill_bound_tokens(), 1024);
  requested.set_policy("full");
  EXPECT_EQ(ResolveCachePolicy(requested, defaults)->prefill_bound_tokens(), 0);
}

}  // namespace
}  // namespace kvec::coordinator::server
