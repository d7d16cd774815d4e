// adasnapkv: SnapKV's score with Ada-KV's budgets across the heads of a layer.

#include <optional>
#include <utility>

#include "worker/eviction/head_budgets.h"
#include "worker/eviction/policies.h"
#include "worker/eviction/snapkv_score.h"

namespace kvec::worker::eviction {
namespace {

class AdaSnapKv : public Policy {
 public:
  explicit AdaSnapKv(PolicyParameters parameters) : parameters_(std::move(parameters)) {}

  ScoreNeeds needs() const override {
    return {.windows = {parameters_.observation_window}, .group_score = GroupScore::kMean};
  }

  std::vector<float> Scores(const LayerScores& scores) const override {
    return SnapKvScores(scores, 0);
  }

  Selection Select(const LayerScores& scores, int layer_budget,
                   const Coverage& coverage) const override {
    return SelectAcrossHeads(Scores(scores), scores.num_kv_heads, scores.num_candidates,
                             layer_budget);
  }

  std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const override {
    return kernels::ChoiceRules{.score = kernels::PoolRules{.radius = kPoolRadius},
                                .sure_share = kSureShare,
                                .choice = kernels::BestRules{}};
  }

 private:
  const PolicyParameters parameters_;
};

}  // namespace

std::unique_ptr<Policy> MakeAdaSnapKv(PolicyParameters parameters) {
  return std::make_unique<AdaSnapKv>(std::move(parameters));
}

}  // namespace kvec::worker::eviction
