// streaming (Xiao et al., "Efficient Streaming Language Models with Attention Sinks"): the first
// tokens, on which attention rests whatever they say, and the most recent. All heads hold the same.

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "worker/eviction/policies.h"

namespace kvec::worker::eviction {
namespace {

constexpr int kSinkTokens = 4;

class Streaming : public Policy {
 public:
  explicit Streaming(PolicyParameters parameters) : parameters_(std::move(parameters)) {}

  // Only to report the attention mass kept.
  ScoreNeeds needs() const override {
    return {.windows = {parameters_.observation_window}, .group_score = GroupScore::kNone};
  }

  // No token is better than another.
  std::vector<float> Scores(const LayerScores& scores) const override {
    return std::vector<float>(static_cast<size_t>(scores.num_kv_heads) * scores.num_candidates);
  }

  Selection Select(const LayerScores& scores, int layer_budget,
                   const Coverage& coverage) const override {
    const int budget = std::min(layer_budget / scores.num_kv_heads, scores.num_candidates);
    const int sinks = std::min(kSinkTokens, budget);
    std::vector<int32_t> kept(budget);
    std::iota(kept.begin(), kept.begin() + sinks, 0);
    std::iota(kept.begin() + sinks, kept.end(), scores.num_candidates - (budget - sinks));
    return Selection(scores.num_kv_heads, kept);
  }

  std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const override {
    return kernels::ChoiceRules{.score = kernels::RecencyRules{.num_sinks = kSinkTokens},
                                .sure_share = std::nullopt,
                                .choice = kernels::BestRules{}};
  }

 private:
  const PolicyParameters parameters_;
};

}  // namespace

std::unique_ptr<Policy> MakeStreaming(PolicyParameters parameters) {
  return std::make_unique<Streaming>(std::move(parameters));
}

}  // namespace kvec::worker::eviction
