#ifndef KVEC_WORKER_EVICTION_HEAD_BUDGETS_H_
#define KVEC_WORKER_EVICTION_HEAD_BUDGETS_H_

#include <vector>

#include "worker/eviction/layer_scores.h"

namespace kvec::worker::eviction {

// Of its part of a layer's slots, what every head is sure of.
inline constexpr double kSureShare = 0.2;

// Ada-KV (Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation"): of
// the layer's slots every head is sure of its ⌊0.2·k⌋ best candidates, k = layer_budget / G; the
// rest goes to the best (head, token) pairs. scores: [G, n], kNotHeld where a head lacks a
// candidate; ties go to the lower head, then position.
Selection SelectAcrossHeads(absl::Span<const float> scores, int num_kv_heads, int num_candidates,
                            int layer_budget);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_HEAD_BUDGETS_H_
