#ifndef KVEC_WORKER_EVICTION_TOP_K_H_
#define KVEC_WORKER_EVICTION_TOP_K_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::eviction {

// Scores what may not be chosen.
template <typename Score>
constexpr Score kNotHeld = -std::numeric_limits<Score>::infinity();

// Indices of the k largest scores, ascending, without those that are kNotHeld; ties go to the lower
// index. Where there are fewer than k it takes all. O(n).
template <typename Score>
std::vector<int32_t> TopK(absl::Span<const Score> scores, int64_t k) {
  std::vector<int32_t> order;
  order.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] > kNotHeld<Score>) order.push_back(static_cast<int32_t>(i));
  }
  if (k < static_cast<int64_t>(order.size())) {
    const auto better = [&](int32_t a, int32_t b) {
      return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
    };
    k = std::max<int64_t>(k, 0);
    std::nth_element(order.begin(), order.begin() + k, order.end(), better);
    order.resize(k);
    std::sort(order.begin(), order.end());
  }
  return order;
}

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_TOP_K_H_
