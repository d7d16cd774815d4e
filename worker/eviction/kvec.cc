// kvec, the default: spans kept whole, heads served by need, coverage at no cost. Steps 1–6 are
// KVEC.md's. kernels/cuda chooses the same by the same rules.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "worker/eviction/head_budgets.h"
#include "worker/eviction/policies.h"
#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {
namespace {

constexpr int kScoringQueries = 8;   // wider windows score worse: 16, then 32, then 64 (measured)
constexpr float kTieBreak = 0.001f;  // of D: orders tokens inside a span by nearness to its best
constexpr float kDecay = 0.9f;

// The first position of every token's span, which ends after a token that closes a sentence, and
// after max_span_tokens.
std::vector<int32_t> SpanBegins(absl::Span<const uint8_t> sentence_ends, int max_span_tokens) {
  std::vector<int32_t> begins;
  begins.reserve(sentence_ends.size());
  int32_t begin = 0;
  for (int32_t t = 0; t < static_cast<int32_t>(sentence_ends.size()); ++t) {
    begins.push_back(begin);
    if (sentence_ends[t] != 0 || t + 1 - begin == max_span_tokens) begin = t + 1;
  }
  return begins;
}

// kDecay to the power of a distance between two tokens.
float DecayOver(int32_t distance) {
  return distance == 1 ? kDecay : std::pow(kDecay, static_cast<float>(distance));
}

class Kvec : public Policy {
 public:
  explicit Kvec(PolicyParameters parameters)
      : parameters_(std::move(parameters)),
        span_begins_(SpanBegins(parameters_.sentence_ends, parameters_.kvec.max_span_tokens)) {}

  ScoreNeeds needs() const override {
    return {.windows = {std::min(kScoringQueries, parameters_.num_tokens)},
            .group_score = GroupScore::kWeightedMaximum};
  }

  std::vector<float> Scores(const LayerScores& scores) const override {
    std::vector<float> p;
    p.reserve(static_cast<size_t>(scores.num_kv_heads) * scores.num_candidates);
    for (int head = 0; head < scores.num_kv_heads; ++head) {
      const std::vector<float> head_score = Score(scores, head);
      p.insert(p.end(), head_score.begin(), head_score.end());
    }
    return p;
  }

  Selection Select(const LayerScores& scores, int layer_budget,
                   const Coverage& coverage) const override {
    const int n = scores.num_candidates;
    const std::vector<float> p = Scores(scores);
    // Step 4: how many slots each head gets. Step 5: heads choose in order of falling budget.
    const std::vector<int> budgets = HeadBudgets(p, scores, layer_budget);
    std::vector<int> order(budgets.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return budgets[a] > budgets[b]; });
    std::vector<uint8_t> taken(n, 0);
    Selection selection(budgets.size());
    const std::vector<uint8_t> covered = Covered(scores, coverage);
    for (int head : order) {
      selection[head] = SelectForHead(absl::MakeConstSpan(p).subspan(size_t(head) * n, n),
                                      budgets[head], covered, taken);
      for (int32_t t : selection[head]) taken[t] = 1;
    }
    return selection;
  }

  std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const override {
    std::optional<double> sure_share;
    if (parameters_.adaptive_heads) sure_share = kSureShare;
    return kernels::ChoiceRules{
        .score = kernels::SpanRules{.span_begins = span_begins_,
                                    .span_floor = parameters_.kvec.span_floor,
                                    .tie_break = kTieBreak,
                                    .decay = kDecay},
        .sure_share = sure_share,
        .choice = kernels::CoverageRules{.taken_factor = 1.0 - parameters_.kvec.taken_discount,
                                         .reserved_share = parameters_.kvec.reserved_share,
                                         .reserved_from = parameters_.kvec.reserved_from}};
  }

 private:
  // [n]: some earlier layer holds the candidate.
  static std::vector<uint8_t> Covered(const LayerScores& scores, const Coverage& coverage) {
    std::vector<uint8_t> covered(scores.num_candidates);
    for (int t = 0; t < scores.num_candidates; ++t) {
      covered[t] = coverage.layers_selecting[scores.Position(t)] > 0;
    }
    return covered;
  }

  // Steps 2 and 3: P of one head, [n]. Step 1 is GroupScore::kWeightedMaximum.
  std::vector<float> Score(const LayerScores& scores, int head) const {
    const int n = scores.num_candidates;
    const absl::Span<const float> a = scores.Head(0, head);
    std::vector<float> p(n);
    const auto span = [&](int t) { return span_begins_[scores.Position(t)]; };
    for (int begin = 0; begin < n;) {
      int end = begin;
      float best = 0;
      for (; end < n && span(end) == span(begin); ++end) best = std::max(best, a[end]);
      for (int t = begin; t < end; ++t) p[t] = std::max(a[t], parameters_.kvec.span_floor * best);
      begin = end;
    }
    AddDecayedMaximum(scores, a, p);
    for (int t = 0; t < n; ++t) {
      if (!scores.IsHeld(head, t)) p[t] = kNotHeld<float>;
    }
    return p;
  }

  // p += kTieBreak · D, D[t] = max over u of a[u] · kDecay^|t - u|.
  static void AddDecayedMaximum(const LayerScores& scores, absl::Span<const float> a,
                                std::vector<float>& p) {
    const int n = static_cast<int>(a.size());
    // By which a maximum shrinks from candidate t - 1 to t, or back.
    const auto decay = [&](int t) {
      return DecayOver(scores.Position(t) - scores.Position(t - 1));
    };
    std::vector<float> decayed(a.begin(), a.end());
    for (int t = 1; t < n; ++t) decayed[t] = std::max(a[t], decay(t) * decayed[t - 1]);
    float backward = 0.0f;
    for (int t = n - 1; t >= 0; --t) {
      backward = t + 1 < n ? std::max(a[t], decay(t + 1) * backward) : a[t];
      p[t] += kTieBreak * std::max(decayed[t], backward);
    }
  }

  std::vector<int> HeadBudgets(absl::Span<const float> p, const LayerScores& scores,
                               int layer_budget) const {
    const int num_heads = scores.num_kv_heads;
    if (!parameters_.adaptive_heads) {
      return std::vector<int>(num_heads, std::min(layer_budget / num_heads, scores.num_candidates));
    }
    std::vector<int> budgets;
    for (const auto& head : SelectAcrossHeads(p, num_heads, scores.num_candidates, layer_budget)) {
      budgets.push_back(static_cast<int>(head.size()));
    }
    return budgets;
  }

  // Steps 5 and 6 for one head. `covered`: by earlier layers; `taken`: by heads of this layer that
  // chose before.
  std::vector<int32_t> SelectForHead(absl::Span<const float> p, int budget,
                                     const std::vector<uint8_t>& covered,
                                     const std::vector<uint8_t>& taken) const {
    const int n = static_cast<int>(p.size());
    std::vector<double> discounted(p.begin(), p.end());
    for (int t = 0; t < n; ++t) {
      if (taken[t]) discounted[t] *= 1.0 - parameters_.kvec.taken_discount;
    }
    const int reserved = static_cast<int>(parameters_.kvec.reserved_share *
                                          std::max(0, budget - parameters_.kvec.reserved_from));
    std::vector<int32_t> kept = TopK(absl::MakeConstSpan(discounted), budget - reserved);
    if (reserved == 0) return kept;

    // The reserved slots go to tokens that nobody holds, then to the best of the others.
    std::vector<uint8_t> is_kept(n, 0);
    for (int32_t t : kept) is_kept[t] = 1;
    const auto is_taken = [&](int t) { return taken[t] || covered[t]; };
    for (const bool among_taken : {false, true}) {
      const int num_free = budget - static_cast<int>(kept.size());
      std::vector<int32_t> eligible;
      std::vector<double> eligible_scores;
      for (int t = 0; t < n; ++t) {
        if (is_kept[t] || is_taken(t) != among_taken) continue;
        eligible.push_back(t);
        eligible_scores.push_back(discounted[t]);
      }
      for (int32_t i : TopK(absl::MakeConstSpan(eligible_scores), num_free)) {
        kept.push_back(eligible[i]);
      }
    }
    std::sort(kept.begin(), kept.end());
    return kept;
  }

  const PolicyParameters parameters_;
  const std::vector<int32_t> span_begins_;  // by position
};

}  // namespace

std::unique_ptr<Policy> MakeKvec(PolicyParameters parameters) {
  return std::make_unique<Kvec>(std::move(parameters));
}

}  // namespace kvec::worker::eviction
