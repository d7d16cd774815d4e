#ifndef KVEC_WORKER_EVICTION_TOP_K_H_
#define KVEC_WORKER_EVICTION_TOP_K_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/types/span.h"

namespace kvec::worker::eviction {

// Indices of the k largest scores, ascending; ties go to the lower index. k beyond the number of
// scores takes all. O(n).
template <typename Score>
std::vector<int32_t> TopK(absl::Span<const Score> scores, int64_t k) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
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
