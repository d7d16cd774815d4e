#include "worker/eviction/snapkv_score.h"

#include <algorithm>

namespace kvec::worker::eviction {
namespace {

constexpr int kPoolRadius = 3;  // kernel 7

}  // namespace

std::vector<float> SnapKvScore(const LayerScores& scores, int window, int kv_head) {
  const int n = scores.num_candidates;
  std::vector<float> mean(n, 0.0f);
  for (int i = 0; i < scores.group_size; ++i) {
    const auto query_head = scores.QueryHeadMean(window, kv_head * scores.group_size + i);
    for (int t = 0; t < n; ++t) mean[t] += query_head[t];
  }
  for (float& value : mean) value /= static_cast<float>(scores.group_size);

  std::vector<float> pooled(n);
  for (int t = 0; t < n; ++t) {
    const auto begin = mean.begin() + std::max(0, t - kPoolRadius);
    const auto end = mean.begin() + std::min(n, t + kPoolRadius + 1);
    pooled[t] = *std::max_element(begin, end);
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
