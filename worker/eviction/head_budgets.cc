#include "worker/eviction/head_budgets.h"

#include <limits>

#include "worker/eviction/top_k.h"

namespace kvec::worker::eviction {

Selection SelectAcrossHeads(absl::Span<const float> scores, int num_kv_heads, int num_candidates,
                            int layer_budget) {
  std::vector<float> raised(scores.begin(), scores.end());
  const int sure = static_cast<int>(kSureShare * (layer_budget / num_kv_heads));
  for (int head = 0; head < num_kv_heads; ++head) {
    const size_t begin = static_cast<size_t>(head) * num_candidates;
    for (int32_t token : TopK(scores.subspan(begin, num_candidates), sure)) {
      raised[begin + token] = std::numeric_limits<float>::infinity();
    }
  }
  Selection selection(num_kv_heads);
  for (int32_t pair : TopK(absl::MakeConstSpan(raised), layer_budget)) {
    selection[pair / num_candidates].push_back(pair % num_candidates);
  }
  return selection;
}

}  // namespace kvec::worker::eviction
