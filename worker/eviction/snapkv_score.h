#ifndef KVEC_WORKER_EVICTION_SNAPKV_SCORE_H_
#define KVEC_WORKER_EVICTION_SNAPKV_SCORE_H_

#include <vector>

#include "worker/eviction/layer_scores.h"

namespace kvec::worker::eviction {

inline constexpr int kPoolRadius = 3;  // kernel 7

// P[g,·] of KVEC.md, [n]: mean over the KV head's query heads of their mean over the window's
// queries, then a running maximum over 7 tokens, of which those that the head no longer holds give
// nothing; kNotHeld for the latter. `window` counts ScoreNeeds::windows.
std::vector<float> SnapKvScore(const LayerScores& scores, int window, int kv_head);

// Of every KV head on top of each other, [G, n].
std::vector<float> SnapKvScores(const LayerScores& scores, int window);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_SNAPKV_SCORE_H_
