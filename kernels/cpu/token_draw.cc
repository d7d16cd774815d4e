#include "kernels/cpu/token_draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/cpu/logit_scan.h"
#include "kernels/philox.h"

namespace kvec::kernels::cpu {
namespace {

// The first of weights whose cumulative sum exceeds `target`; rounding may leave none, then the
// last that can be drawn at all.
template <typename Weights, typename WeightOf>
size_t FindCumulative(const Weights& weights, double target, const WeightOf& weight_of) {
  double cumulative = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double weight = weight_of(weights[i]);
    cumulative += weight;
    if (cumulative > target) return i;
    if (weight > 0) last = i;
  }
  return last;
}

int32_t DrawFromAll(absl::Span<const float> weights, const std::vector<double>& stretch_sums,
                    double uniform) {
  const double total = std::accumulate(stretch_sums.begin(), stretch_sums.end(), 0.0);
  const double target = uniform * total;
  const size_t stretch = FindCumulative(stretch_sums, target, [](double sum) { return sum; });
  const double before = std::accumulate(
      stretch_sums.begin(), stretch_sums.begin() + static_cast<ptrdiff_t>(stretch), 0.0);
  const size_t begin = stretch * kStretchTokens;
  const size_t token = FindCumulative(weights.subspan(begin, kStretchTokens), target - before,
                                      [](float weight) { return weight; });
  return static_cast<int32_t>(begin + token);
}

int32_t DrawFromKept(const std::vector<ScoredToken>& kept, double uniform) {
  const auto score = [](const ScoredToken& token) { return double{token.score}; };
  double total = 0;
  for (const ScoredToken& token : kept) total += token.score;
  return kept[FindCumulative(kept, uniform * total, score)].token;
}

// Keeps the shortest prefix of the tokens in order of rank that reaches top_p of `total`.
void KeepNucleus(float top_p, double total, std::vector<ScoredToken>& tokens) {
  const double wanted = double{top_p} * total;
  double cumulative = 0;
  size_t sorted = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i == sorted) {
      // Most nuclei are small: order only as many as are looked at.
      sorted = std::min(tokens.size(), std::max<size_t>(64, 4 * sorted));
      const auto begin = tokens.begin() + static_cast<ptrdiff_t>(i);
      const auto end = tokens.begin() + static_cast<ptrdiff_t>(sorted);
      std::nth_element(begin, end, tokens.end(), RanksBefore);
      std::sort(begin, end, RanksBefore);
    }
    cumulative += tokens[i].score;
    if (cumulative >= wanted) {
      tokens.resize(i + 1);
      return;
    }
  }
}

void KeepMinP(float min_p, float max_weight, std::vector<ScoredToken>& tokens) {
  const float threshold = min_p * max_weight;
  tokens.erase(std::remove_if(tokens.begin(), tokens.end(),
                              [&](const ScoredToken& token) { return token.score < threshold; }),
               tokens.end());
}

}  // namespace

int32_t DrawToken(const SampleRequest& request, absl::Span<const float> logits, float max) {
  static thread_local std::vector<float> weights;
  static thread_local std::vector<double> stretch_sums;
  static thread_local std::vector<ScoredToken> kept;
  constexpr float kLog2E = 1.4426950408889634f;
  constexpr float kLargestScale = 1e30f;  // 0 · scale must stay 0
  weights.resize(logits.size());
  ComputeWeights(logits, max, std::min(kLog2E / request.temperature, kLargestScale),
                 absl::MakeSpan(weights), stretch_sums);
  const double uniform = UniformDraw(request.seed, request.choice, request.position);
  const double total = std::accumulate(stretch_sums.begin(), stretch_sums.end(), 0.0);
  const bool has_top_k = request.top_k > 0 && static_cast<size_t>(request.top_k) < logits.size();
  const bool has_top_p = request.top_p < 1.0f;
  if (has_top_k) {
    CollectTop(weights, request.top_k, kept);
    double kept_total = 0;
    for (const ScoredToken& token : kept) kept_total += token.score;
    if (has_top_p) KeepNucleus(request.top_p, kept_total, kept);
  } else if (has_top_p) {
    // All tokens below this weight together do not reach 1 - top_p.
    const double threshold =
        (1.0 - double{request.top_p}) * total / static_cast<double>(logits.size());
    CollectAtLeast(weights, static_cast<float>(threshold * 0.999), kept);
    KeepNucleus(request.top_p, total, kept);
  } else if (request.min_p > 0) {
    CollectAtLeast(weights, request.min_p, kept);  // the largest weight is exactly 1
  } else {
    return DrawFromAll(weights, stretch_sums, uniform);
  }
  if (request.min_p > 0) KeepMinP(request.min_p, 1.0f, kept);
  return DrawFromKept(kept, uniform);
}

}  // namespace kvec::kernels::cpu
