#include "coordinator/server/cache_policies.h"

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

}  // namespace
}  // namespace kvec::coordinator::server
