#include "worker/eviction/snapkv_score.h"

#include <algorithm>

#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {

std::vector<float> SnapKvScore(const LayerScores& scores, int window, int kv_head) {
  const int n = scores.num_candidates;
  const absl::Span<const float> mean = scores.Head(window, kv_head);
  std::vector<float> pooled(n);
  int begin = 0;
  int end = 0;
  for (int t = 0; t < n; ++t) {
    while (scores.Position(begin) < scores.Position(t) - kPoolRadius) ++begin;
    while (end < n && scores.Position(end) <= scores.Position(t) + kPoolRadius) ++end;
    pooled[t] = scores.IsHeld(kv_head, t)
                    ? *std::max_element(mean.begin() + begin, mean.begin() + end)
                    : kNotHeld<float>;
  }
  return pooled;
}

std::vector<float> SnapKvScores(const LayerScores& scores, int window) {
  std::vector<float> all;
  all.reserve(static_cast<size_t>(scores.num_kv_heads) * scores.num_candidates);
  for (int kv_head = 0; kv_head < scores.num_kv_heads; ++kv_head) {
    const std::vector<float> head = SnapKvScore(scores, window, kv_head);
    all.insert(all.end(), head.begin(), head.end());
  }
  return all;
}

}  // namespace kvec::worker::eviction
