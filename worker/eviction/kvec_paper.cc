// kvec-paper: S. Roy et al., "Coverage-Driven KV Cache Eviction for Efficient and Improved
// Inference of LLM" (arXiv 2606.29563), exactly as KVEC.md fixes it.

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "worker/eviction/policies.h"
#include "worker/eviction/snapkv_score.h"
#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {
namespace {

constexpr int kObservation = 0;  // indices of needs().windows
constexpr int kWide = 1;

// Sum of what `term` makes of each candidate that the head holds; see kernels::kDeviationSums.
template <typename Term>
double SumOverHeld(absl::Span<const float> score, const Term& term) {
  std::array<double, kernels::kDeviationSums> sums = {};
  for (size_t t = 0; t < score.size(); ++t) {
    if (score[t] != kNotHeld<float>) sums[t % sums.size()] += term(score[t]);
  }
  for (size_t count = sums.size() / 2; count > 0; count /= 2) {
    for (size_t i = 0; i < count; ++i) sums[i] += sums[i + count];
  }
  return sums[0];
}

// σ of the score over the candidates that the head holds (population). In float, so that heads that
// differ by the rounding of the sums only are a tie.
float StandardDeviation(absl::Span<const float> score) {
  const auto count = static_cast<double>(score.size()) -
                     static_cast<double>(std::count(score.begin(), score.end(), kNotHeld<float>));
  if (count == 0) return 0;
  const double mean = SumOverHeld(score, [](float value) { return double{value}; }) / count;
  const double squares =
      SumOverHeld(score, [mean](float value) { return (value - mean) * (value - mean); });
  return static_cast<float>(std::sqrt(squares / count));
}

class KvecPaper : public Policy {
 public:
  explicit KvecPaper(PolicyParameters parameters) : parameters_(std::move(parameters)) {}

  ScoreNeeds needs() const override {
    return {.windows = {parameters_.observation_window, parameters_.wide_window},
            .group_score = GroupScore::kMean,
            .focus_window = parameters_.observation_window};
  }

  std::vector<float> Scores(const LayerScores& scores) const override {
    std::vector<float> all;
    for (const std::vector<float>& head : CrossHeadScores(scores)) {
      all.insert(all.end(), head.begin(), head.end());
    }
    return all;
  }

  Selection Select(const LayerScores& scores, int layer_budget,
                   const Coverage& coverage) const override {
    const std::vector<std::vector<float>> head_scores = CrossHeadScores(scores);
    const int k = layer_budget / scores.num_kv_heads;
    const int num_forced = static_cast<int>(std::floor(double{parameters_.beta} * k));
    Selection selection;
    for (const std::vector<float>& p : head_scores) {
      // P' = P + λ · I · (1 - coverage), coverage[t] = n[t] / (l + 1).
      std::vector<double> raised(p.begin(), p.end());
      for (int t = 0; t < scores.num_candidates; ++t) {
        const double covered = coverage.layers_selecting[scores.Position(t)] /
                               static_cast<double>(coverage.num_layers + 1);
        raised[t] += parameters_.lambda * (scores.focus[t] * (1.0 - covered));
      }
      for (int32_t t : TopK(absl::MakeConstSpan(p), num_forced)) {
        raised[t] = 1.0 + parameters_.lambda;
      }
      selection.push_back(TopK(absl::MakeConstSpan(raised), k));
    }
    return selection;
  }

  std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const override {
    return kernels::ChoiceRules{
        .score = kernels::PoolRules{.radius = kPoolRadius, .num_widened = NumWidened(num_kv_heads)},
        .sure_share = std::nullopt,
        .choice =
            kernels::FocusRules{.lambda = parameters_.lambda, .forced_share = parameters_.beta}};
  }

 private:
  // P of every head; of the δ least focused ones over the wide window.
  std::vector<std::vector<float>> CrossHeadScores(const LayerScores& scores) const {
    const int num_heads = scores.num_kv_heads;
    std::vector<std::vector<float>> head_scores;
    std::vector<float> deviations;
    for (int head = 0; head < num_heads; ++head) {
      head_scores.push_back(SnapKvScore(scores, kObservation, head));
      deviations.push_back(StandardDeviation(head_scores.back()));
    }
    std::vector<int> order(num_heads);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return deviations[a] < deviations[b]; });
    for (int i = 0; i < NumWidened(num_heads); ++i) {
      head_scores[order[i]] = SnapKvScore(scores, kWide, order[i]);
    }
    return head_scores;
  }

  int NumWidened(int num_kv_heads) const {
    if (parameters_.delta >= 0) return std::min(parameters_.delta, num_kv_heads);
    if (num_kv_heads == 1) return 0;
    const int rounded = static_cast<int>(std::nearbyint(3.0 * num_kv_heads / 8.0));
    return std::clamp(rounded, 1, num_kv_heads - 1);
  }

  const PolicyParameters parameters_;
};

}  // namespace

std::unique_ptr<Policy> MakeKvecPaper(PolicyParameters parameters) {
  return std::make_unique<KvecPaper>(std::move(parameters));
}

}  // namespace kvec::worker::eviction
