#ifndef KVEC_WORKER_EVICTION_LAYER_SCORES_H_
#define KVEC_WORKER_EVICTION_LAYER_SCORES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::eviction {

// What a policy wants to know of a layer's attention before it can choose.
struct ScoreNeeds {
  // Numbers of last prompt queries over which attention probabilities are averaged, each giving one
  // entry of LayerScores::query_head_means.
  std::vector<int> windows;
  bool focus = false;  // I of KVEC.md
  bool value_norms = false;
};

// How the last queries of a prompt of T tokens attended in one layer, over the candidates
// 0 … n - 1, n = T - O. All KV heads of the layer, whichever rank holds them.
struct LayerScores {
  int num_candidates = 0;  // n
  int num_kv_heads = 0;    // G
  int group_size = 0;      // query heads per KV head, H / G
  // One entry per ScoreNeeds::windows, [H, n]: mean over the last queries of A.
  std::vector<absl::Span<const float>> query_head_means;
  absl::Span<const float> focus;  // [n]: mean over the last O queries of the max over heads of A
  absl::Span<const float> value_norms;  // [G, n]: ‖v‖₂

  absl::Span<const float> QueryHeadMean(int window, int query_head) const {
    return query_head_means[window].subspan(static_cast<size_t>(query_head) * num_candidates,
                                            num_candidates);
  }
};

// Candidates that each KV head keeps, ascending; the observation window is kept beside them.
using Selection = std::vector<std::vector<int32_t>>;  // [G][…]

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_LAYER_SCORES_H_
