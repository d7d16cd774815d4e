#ifndef KVEC_WORKER_EVICTION_LAYER_CURVE_H_
#define KVEC_WORKER_EVICTION_LAYER_CURVE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::eviction {

// How much of a layer its best (head, token) pairs hold: at each of `budgets` (pairs, ascending) the
// share of the sum of the scores' square roots. scores: [G · n] not negative, or kNotHeld. Concave: each
// pair adds no more than the one before. 1 everywhere when there is nothing to lose.
//
// Roots, since a few pairs have most of the score in every layer: without them budgets go to the layers
// that are the least concentrated, and answers suffer (docs/quality.md).
std::vector<float> LayerCurve(absl::Span<const float> scores, absl::Span<const uint32_t> budgets);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_LAYER_CURVE_H_
