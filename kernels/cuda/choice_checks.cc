#include "kernels/cuda/choice_checks.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/choice_rows.h"
#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/pool_scores.h"

namespace kvec::kernels::cuda {
namespace {

// Decayed maxima end at kMaxDecayTokens only if they have shrunk to nothing there.
constexpr float kMaxDecay = 0.9f;
constexpr float kMaxTieBreak = 0.1f;
// Floats tell positions below it apart.
constexpr int kMaxRecentCandidates = 1 << 24;

template <typename Number>
bool IsShare(Number number) {
  return number >= 0 && number <= 1;
}

absl::Status CheckSpans(absl::Span<const int32_t> span_begins, int num_candidates) {
  for (int t = 0; t < num_candidates; ++t) {
    const int32_t begin = span_begins[static_cast<size_t>(t)];
    if (begin >= 0 && begin <= t && t - begin < kMaxSpanTokens) continue;
    return absl::InvalidArgumentError(absl::StrCat("choice: span of token ", t, " begins at ",
                                                   begin, ", of up to ", kMaxSpanTokens,
                                                   " tokens"));
  }
  return absl::OkStatus();
}

absl::Status CheckScore(const ChoicePlan& plan, const SpanRules& rules) {
  if (plan.num_windows != 1 ||
      rules.span_begins.size() < static_cast<size_t>(plan.num_candidates) || rules.decay < 0 ||
      rules.decay > kMaxDecay || rules.tie_break < 0 || rules.tie_break > kMaxTieBreak ||
      rules.span_floor < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("choice: ", plan.num_windows, " windows, ", rules.span_begins.size(),
                     " span_begins of ", plan.num_candidates, " candidates, decay ", rules.decay,
                     ", tie_break ", rules.tie_break, ", span_floor ", rules.span_floor));
  }
  return CheckSpans(rules.span_begins, plan.num_candidates);
}

absl::Status CheckScore(const ChoicePlan& plan, const PoolRules& rules) {
  const int num_windows = rules.num_widened > 0 ? 2 : 1;
  if (plan.num_windows >= num_windows && rules.radius >= 0 && rules.radius <= kMaxPoolRadius &&
      rules.num_widened >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("choice: pooling radius ", rules.radius, " of up to ", kMaxPoolRadius,
                   ", num_widened ", rules.num_widened, " of ", plan.num_windows, " windows"));
}

absl::Status CheckScore(const ChoicePlan& plan, const RecencyRules& rules) {
  if (plan.num_windows == 1 && rules.num_sinks >= 0 && plan.num_candidates < kMaxRecentCandidates) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("choice: num_sinks ", rules.num_sinks, ", ", plan.num_windows, " windows, ",
                   plan.num_candidates, " candidates, below ", kMaxRecentCandidates));
}

absl::Status CheckChoice(const ChoicePlan& plan, const BestRules&) {
  if (plan.focus_window == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("choice: focus_window ", plan.focus_window, ", which is not looked at"));
}

absl::Status CheckChoice(const ChoicePlan& plan, const CoverageRules& rules) {
  KVEC_RETURN_IF_ERROR(CheckChoice(plan, BestRules{}));
  const bool has_factor =
      rules.taken_factor == 0 || (rules.taken_factor >= kMinTakenFactor && rules.taken_factor <= 1);
  if (has_factor && IsShare(rules.reserved_share) && rules.reserved_from >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("choice: taken_factor ", rules.taken_factor,
                                                 ", reserved_share ", rules.reserved_share,
                                                 ", reserved_from ", rules.reserved_from));
}

absl::Status CheckChoice(const ChoicePlan& plan, const FocusRules& rules) {
  if (plan.focus_window > 0 && plan.num_layers_before >= 0 && rules.lambda >= 0 &&
      IsShare(rules.forced_share) && !plan.rules.sure_share.has_value()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "choice: focus_window ", plan.focus_window, ", num_layers_before ", plan.num_layers_before,
      ", lambda ", rules.lambda, ", forced_share ", rules.forced_share,
      plan.rules.sure_share.has_value() ? ", of a budget that heads share" : ""));
}

// Whether a rank's KV heads are those that its query heads read.
bool IsConsistent(const RankHeadRange& rank, int group_size) {
  return rank.num_heads > 0 && group_size > 0 && rank.first_head >= 0 &&
         rank.first_kv_head == rank.first_head / group_size &&
         rank.first_kv_head + rank.num_kv_heads - 1 ==
             (rank.first_head + rank.num_heads - 1) / group_size;
}

absl::Status CheckRanks(const ChoicePlan& plan) {
  for (size_t i = 0; i < plan.ranks.size(); ++i) {
    const RankHeadRange& rank = plan.ranks[i];
    if (IsConsistent(rank, plan.shape.group_size)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("choice: rank ", i, " has ", rank.num_heads, " query heads from ",
                     rank.first_head, " on, in groups of ", plan.shape.group_size, ", and ",
                     rank.num_kv_heads, " KV heads from ", rank.first_kv_head, " on"));
  }
  const bool has_rank = plan.rank >= 0 && static_cast<size_t>(plan.rank) < plan.ranks.size();
  const RankHeadRange own = has_rank ? plan.ranks[static_cast<size_t>(plan.rank)] : RankHeadRange{};
  const int num_kv_heads = NumKvHeads(plan);
  if (own.num_kv_heads < 1 || own.num_kv_heads != plan.shape.num_kv_heads ||
      own.num_heads != plan.shape.num_heads || num_kv_heads > kMaxChosenHeads) {
    return absl::InvalidArgumentError(absl::StrCat(
        "choice: rank ", plan.rank, " of ", plan.ranks.size(), " with ", own.num_heads,
        " heads and ", own.num_kv_heads, " KV heads, not ", plan.shape.num_heads, " and ",
        plan.shape.num_kv_heads, ", of ", num_kv_heads, ", which may be ", kMaxChosenHeads));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlan(const ChoicePlan& plan) {
  if (plan.num_candidates < 1 ||
      plan.layers_selecting.size() != static_cast<size_t>(plan.num_candidates)) {
    return absl::InvalidArgumentError(absl::StrCat("choice: ", plan.num_candidates, " candidates, ",
                                                   plan.layers_selecting.size(),
                                                   " layers_selecting"));
  }
  KVEC_RETURN_IF_ERROR(CheckRanks(plan));
  for (const int budget : plan.layer_budgets) {
    if (budget < 0) return absl::InvalidArgumentError(absl::StrCat("choice: budget ", budget));
  }
  if (!IsShare(plan.rules.sure_share.value_or(0))) {
    return absl::InvalidArgumentError(absl::StrCat("choice: sure_share ", *plan.rules.sure_share));
  }
  KVEC_RETURN_IF_ERROR(
      std::visit([&](const auto& rules) { return CheckScore(plan, rules); }, plan.rules.score));
  return std::visit([&](const auto& rules) { return CheckChoice(plan, rules); }, plan.rules.choice);
}

}  // namespace kvec::kernels::cuda
