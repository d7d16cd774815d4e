#include "coordinator/server/model_alias.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::HasSubstr;

TEST(ModelAliasTest, ReadsPolicyBudgetAndAddress) {
  const auto alias = ParseModelAlias("kvec-512=127.0.0.1:50061");
  ASSERT_TRUE(alias.ok()) << alias.status();
  EXPECT_EQ(alias->name, "kvec-512");
  EXPECT_EQ(alias->listen, "127.0.0.1:50061");
  EXPECT_EQ(alias->cache.policy(), "kvec");
  EXPECT_EQ(alias->cache.budget_tokens(), 512);
}

TEST(ModelAliasTest, ABudgetBelowOneIsAShare) {
  const auto alias = ParseModelAlias("snapkv-0.25=[::1]:0");
  ASSERT_TRUE(alias.ok()) << alias.status();
  EXPECT_EQ(alias->cache.policy(), "snapkv");
  EXPECT_FLOAT_EQ(alias->cache.budget_share(), 0.25);
  EXPECT_EQ(alias->listen, "[::1]:0");
}

TEST(ModelAliasTest, PoliciesMayHaveDashesAndNoBudget) {
  const auto paper = ParseModelAlias("kvec-paper-128=h:1");
  ASSERT_TRUE(paper.ok());
  EXPECT_EQ(paper->cache.policy(), "kvec-paper");
  EXPECT_EQ(paper->cache.budget_tokens(), 128);
  for (const char* policy : {"full", "kvec-paper"}) {
    const auto alias = ParseModelAlias(absl::StrCat(policy, "=h:1"));
    ASSERT_TRUE(alias.ok());
    EXPECT_EQ(alias->cache.policy(), policy);
    EXPECT_EQ(alias->cache.budget_case(), v1::CachePolicy::BUDGET_NOT_SET);
  }
}

TEST(ModelAliasTest, NamesWhatIsWrong) {
  for (const auto& [text, message] : {std::pair{"kvec-512", "\"kvec-512\" is not POLICY"},
                                      {"=127.0.0.1:1", "is not POLICY"},
                                      {"kvec-0=h:1", "budget \"0\""},
                                      {"kvec-1.5=h:1", "budget \"1.5\""},
                                      {"kvec-99999999999=h:1", "budget \"99999999999\""},
                                      {"kvec-5x=h:1", "budget \"5x\""}}) {
    const absl::Status status = ParseModelAlias(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr(message));
  }
}

}  // namespace
}  // namespace kvec::coordinator::server
