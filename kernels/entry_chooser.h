#ifndef KVEC_KERNELS_ENTRY_CHOOSER_H_
#define KVEC_KERNELS_ENTRY_CHOOSER_H_

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kv_arena.h"
#include "kernels/tensor.h"
#include "kernels/window_scores.h"

namespace kvec::kernels {

// The rules of eviction policies, in numbers; worker/eviction's files and KVEC.md say why. First,
// what a candidate is worth to a KV head: its score P.

// Of `kvec`: of ‖v‖₂ times the maximum over the query heads' means, spans and decayed maxima.
struct SpanRules {
  // By position: the first token of each token's span, at most kMaxSpanTokens - 1 before it.
  absl::Span<const int32_t> span_begins;
  float span_floor = 0;  // of the best score in a token's span
  float tie_break = 0;   // of the decayed maximum
  float decay = 0;       // from token to token
};

// Of SnapKV: of the mean over the query heads' means, the maximum over neighbouring tokens.
struct PoolRules {
  int radius = 0;  // neighbours on each side
  // So many KV heads, those whose P deviates least, are scored by the second window of queries.
  int num_widened = 0;
};

// The first tokens are worth most, then the most recent.
struct RecencyRules {
  int num_sinks = 0;
};

// Second, how heads choose by P.

// Each its best.
struct BestRules {};

// One after another.
struct CoverageRules {
  double taken_factor = 1;    // of a score, where a head that chose before holds the token
  double reserved_share = 0;  // of a head's slots beyond reserved_from: for what nobody holds
  int reserved_from = 0;
};

// Each its best by P + lambda · I · (1 - the share of layers before that hold the token), I: the
// mean over the focus window of the maximum over all query heads. Before them forced_share of its
// slots go to its best by P.
struct FocusRules {
  double lambda = 0;
  double forced_share = 0;
};

struct ChoiceRules {
  std::variant<SpanRules, PoolRules, RecencyRules> score;
  // Heads share a layer's budget as they need it; of its part each is sure of so much. None: each
  // has its part.
  std::optional<double> sure_share;
  std::variant<BestRules, CoverageRules, FocusRules> choice;
};

inline constexpr int kMaxSpanTokens = 256;
// A token's score reaches others through its decayed maximum, and is nothing beyond
// kMaxDecayTokens: tie_break · decay^kMaxDecayTokens of any number must be.
inline constexpr int kMaxDecayTokens = 2048;

// A deviation's sums over candidates are sums of as many: of the candidates t, t + kDeviationSums …
// each, ascending, then halves of them are added until one is left. Devices add so at once.
inline constexpr int kDeviationSums = 256;

// The heads of a layer that a rank holds. Ranks may share a KV head, each with some of the query
// heads that read it.
struct RankHeadRange {
  int first_head = 0;  // query heads
  int num_heads = 0;
  int first_kv_head = 0;
  int num_kv_heads = 0;
};

// What is chosen of a sequence in the layers of a stage, for all KV heads of a layer on every rank
// alike. Every head holds every candidate, at the entry of the same number.
struct ChoicePlan {
  ChoiceRules rules;
  HeadShape shape;                        // of this rank
  absl::Span<const RankHeadRange> ranks;  // all of the stage; together they hold G KV heads
  int rank = 0;
  int num_candidates = 0;  // n
  // Of the requests that the layers will be scored by; 0: no focus window is wanted.
  int num_windows = 1;
  int focus_window = 0;
  // Layers that have chosen before, and in how many of them some head keeps each token, [n].
  int num_layers_before = 0;
  absl::Span<const uint16_t> layers_selecting;
  // Entries over all heads of each layer that will be chosen from, [layers].
  absl::Span<const int> layer_budgets;
};

// In the device's memory: what each rank's query heads make of the candidates. Of every rank as
// many bytes, in rank order; floats [rows, n], which begin with
//   by SpanRules: a of KVEC.md, of each of its KV heads;
//   by PoolRules: of each window, of each of its KV heads the sum over the query heads' means, or
//     where ranks share the KV head, whose sum has an order, each of these means;
// and, with a focus window, of each of its queries the maximum over the rank's query heads. Where
// other ranks have more rows, some are unused. Without rows there is nothing to gather.
struct RankWeights {
  absl::Span<uint8_t> mine;  // in its place in `all`
  absl::Span<uint8_t> all;
};

// What a layer keeps.
struct ChosenEntries {
  std::vector<std::vector<int32_t>> kept;  // [G], candidates, ascending
  int num_unique = 0;                      // candidates that some head keeps
  // Of the query heads that were scored, the attention that goes to candidates which their KV head
  // does not keep, [num_heads]: a mean over the first window's queries.
  std::vector<double> lost_attention;
};

struct Choice {
  std::vector<ChosenEntries> layers;       // [layers] of the plan
  std::vector<uint16_t> layers_selecting;  // [n], these layers included
};

// What a Device may be able to do beyond operations: score a sequence's entries and choose those
// that each head keeps, layer after layer, without the host in between. Keeps what the policy on
// the host would of the same scores. Operations are queued like the device's own; Finish alone
// waits. For one sequence at a time; called from the device's thread. Of each layer of the plan:
// ScoreLayer, then ChooseLayer.
class EntryChooser {
 public:
  virtual ~EntryChooser() = default;

  // Begins with a sequence, whatever has become of the one before. INVALID_ARGUMENT for sizes and
  // rules that the device does not take.
  virtual absl::Status Begin(const ChoicePlan& plan) = 0;

  // Scores the plan's next layer by this rank's query heads. The windows and candidates of `window`
  // are the plan's; its `means` and `maxima` are not wanted. The ranks' weights are then to be
  // gathered, if there are several, before ChooseLayer.
  virtual absl::StatusOr<RankWeights> ScoreLayer(const WindowScoreRequest& window,
                                                 const KvArena& arena) = 0;
  // Chooses from the layer that was scored.
  virtual absl::Status ChooseLayer() = 0;

  // Waits for the choice from all of the plan's layers.
  virtual absl::StatusOr<Choice> Finish() = 0;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_ENTRY_CHOOSER_H_
