#include "worker/comm/rank_ordered_sum.h"

#include <algorithm>

namespace kvec::worker::comm {

void SumInRankOrder(absl::Span<const float* const> parts, absl::Span<float> sum) {
  constexpr size_t kBlock = 1024;  // floats: block and parts stay in the first-level cache
  float block[kBlock];
  for (size_t begin = 0; begin < sum.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, sum.size() - begin);
    std::copy_n(parts[0] + begin, count, block);
    for (size_t rank = 1; rank < parts.size(); ++rank) {
      const float* const part = parts[rank] + begin;
      for (size_t i = 0; i < count; ++i) block[i] += part[i];
    }
    std::copy_n(block, count, sum.begin() + begin);
  }
}

}  // namespace kvec::worker::comm
