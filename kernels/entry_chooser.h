#ifndef KVEC_KERNELS_ENTRY_CHOOSER_H_
#define KVEC_KERNELS_ENTRY_CHOOSER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kv_arena.h"
#include "kernels/tensor.h"
#include "kernels/window_scores.h"

namespace kvec::kernels {

// How the policy `kvec` chooses, in numbers; worker/eviction/kvec.cc and KVEC.md say why.
struct ChoiceRules {
  // By position: the first token of each token's span, at most kMaxSpanTokens - 1 before it.
  absl::Span<const int32_t> span_begins;
  float span_floor = 0;  // of the best score in a token's span
  float tie_break = 0;   // of the decayed maximum
  float decay = 0;       // from token to token
  // Whether heads share a layer's budget as they need it; `sure_share` of its part is each head's.
  bool adaptive_heads = true;
  double sure_share = 0;
  double taken_factor = 1;    // of a score, where a head that chose before holds the token
  double reserved_share = 0;  // of a head's slots beyond reserved_from: for what nobody holds
  int reserved_from = 0;
};

inline constexpr int kMaxSpanTokens = 256;
// A token's score reaches others through its decayed maximum, and is nothing beyond
// kMaxDecayTokens: tie_break · decay^kMaxDecayTokens of any number must be.
inline constexpr int kMaxDecayTokens = 2048;

// KV heads of a layer that a rank holds. Ranks may share one, each with some of its query heads.
struct KvHeadRange {
  int first = 0;
  int count = 0;
};

// What is chosen of a sequence in the layers of a stage, for all KV heads of a layer on every rank
// alike. Every head holds every candidate, at the entry of the same number.
struct ChoicePlan {
  ChoiceRules rules;
  HeadShape shape;                      // of this rank
  absl::Span<const KvHeadRange> ranks;  // all of the stage; together they hold G KV heads
  int rank = 0;
  int num_candidates = 0;  // n
  // In how many layers before some head keeps each token, [n].
  absl::Span<const uint16_t> layers_selecting;
  // Entries over all heads of each layer that will be chosen from, [layers].
  absl::Span<const int> layer_budgets;
};

// In the device's memory: how much each rank's query heads make of the candidates, a of KVEC.md. Of
// every rank as many bytes, in rank order; floats [rows, n], a row for each of its KV heads and
// unused ones where others have more.
struct RankWeights {
  absl::Span<uint8_t> mine;  // in its place in `all`
  absl::Span<uint8_t> all;
};

// What a layer keeps.
struct ChosenEntries {
  std::vector<std::vector<int32_t>> kept;  // [G], candidates, ascending
  int num_unique = 0;                      // candidates that some head keeps
  // Of the query heads that were scored, the attention that goes to candidates which their KV head
  // does not keep, [num_heads]: a mean over the window's queries.
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

  // Scores the plan's next layer by this rank's query heads. Of `window` there is one window and no
  // maxima, and its candidates are the plan's; `means` are not wanted. The ranks' weights are then
  // to be gathered, if there are several, before ChooseLayer.
  virtual absl::StatusOr<RankWeights> ScoreLayer(const WindowScoreRequest& window,
                                                 const KvArena& arena) = 0;
  // Chooses from the layer that was scored.
  virtual absl::Status ChooseLayer() = 0;

  // Waits for the choice from all of the plan's layers.
  virtual absl::StatusOr<Choice> Finish() = 0;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_ENTRY_CHOOSER_H_
