#include "worker/eviction/layer_curve.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>

namespace kvec::worker::eviction {

std::vector<float> LayerCurve(absl::Span<const float> scores, absl::Span<const uint32_t> budgets) {
  std::vector<float> falling;
  falling.reserve(scores.size());
  for (float score : scores) {
    if (score > 0) falling.push_back(std::sqrt(score));
  }
  std::sort(falling.begin(), falling.end(), std::greater<>());
  const double sum = std::accumulate(falling.begin(), falling.end(), 0.0);
  std::vector<float> curve;
  double held = 0;
  size_t next = 0;
  for (uint32_t budget : budgets) {
    for (; next < std::min<size_t>(budget, falling.size()); ++next) held += falling[next];
    curve.push_back(sum > 0 ? static_cast<float>(held / sum) : 1.0f);
  }
  return curve;
}

}  // namespace kvec::worker::eviction
