// snapkv (Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation") and, with its
// layer budgets, pyramidkv (Cai et al.): every KV head keeps its best by P.

#include <optional>
#include <utility>

#include "worker/eviction/policies.h"
#include "worker/eviction/snapkv_score.h"
#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {
namespace {

class SnapKv : public Policy {
 public:
  explicit SnapKv(PolicyParameters parameters) : parameters_(std::move(parameters)) {}

  ScoreNeeds needs() const override {
    return {.windows = {parameters_.observation_window}, .group_score = GroupScore::kMean};
  }

  std::vector<float> Scores(const LayerScores& scores) const override {
    return SnapKvScores(scores, 0);
  }

  Selection Select(const LayerScores& scores, int layer_budget,
                   const Coverage& coverage) const override {
    Selection selection;
    for (int kv_head = 0; kv_head < scores.num_kv_heads; ++kv_head) {
      const std::vector<float> score = SnapKvScore(scores, 0, kv_head);
      selection.push_back(TopK(absl::MakeConstSpan(score), layer_budget / scores.num_kv_heads));
    }
    return selection;
  }

  std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const override {
    return kernels::ChoiceRules{.score = kernels::PoolRules{.radius = kPoolRadius},
                                .sure_share = std::nullopt,
                                .choice = kernels::BestRules{}};
  }

 private:
  const PolicyParameters parameters_;
};

}  // namespace

std::unique_ptr<Policy> MakeSnapKv(PolicyParameters parameters) {
  return std::make_unique<SnapKv>(std::move(parameters));
}

}  // namespace kvec::worker::eviction
