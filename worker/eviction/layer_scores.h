#ifndef KVEC_WORKER_EVICTION_LAYER_SCORES_H_
#define KVEC_WORKER_EVICTION_LAYER_SCORES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::eviction {

// How the query heads that read a KV head become one score.
enum class GroupScore {
  kNone,             // the policy reads no scores: they are only reported
  kMean,             // mean of the query heads'
  kWeightedMaximum,  // their maximum, times ‖v‖₂
};

// What a policy wants to know of a layer's attention before it can choose.
struct ScoreNeeds {
  // Numbers of last queries over which attention probabilities are averaged, each giving one
  // entry of LayerScores::heads.
  std::vector<int> windows;
  GroupScore group_score = GroupScore::kMean;
  int focus_window = 0;  // O: last queries over which I of KVEC.md is taken; 0: not wanted
};

// How the last queries of a sequence attended in one layer, over the candidates: the tokens that some
// KV head of the layer holds, but for the last O. All KV heads of the layer, whichever rank holds
// them.
struct LayerScores {
  int num_candidates = 0;  // n
  int num_kv_heads = 0;    // G
  // One entry per ScoreNeeds::windows, [G, n]: of the means over the last queries of A. Empty for
  // GroupScore::kNone.
  std::vector<absl::Span<const float>> heads;
  absl::Span<const float> focus;  // [n]: mean over the last O queries of the max over heads of A
  // What earlier evictions left. Positions of the candidates, [n] ascending; empty: 0 … n - 1.
  absl::Span<const int32_t> positions;
  // [G, n]: the head holds the candidate; empty: every head holds all. What a head does not hold
  // has score 0 there, and is not chosen.
  absl::Span<const uint8_t> held;

  int32_t Position(int candidate) const {
    return positions.empty() ? candidate : positions[candidate];
  }
  bool IsHeld(int kv_head, int candidate) const {
    return held.empty() || held[static_cast<size_t>(kv_head) * num_candidates + candidate] != 0;
  }
  absl::Span<const float> Head(int window, int kv_head) const {
    return heads[window].subspan(static_cast<size_t>(kv_head) * num_candidates, num_candidates);
  }
};

// Candidates that each KV head keeps, ascending; the observation window is kept beside them.
using Selection = std::vector<std::vector<int32_t>>;  // [G][…]

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_LAYER_SCORES_H_
