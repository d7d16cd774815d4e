#include "worker/engine/layer_candidates.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvec::worker::engine {

LayerCandidates::LayerCandidates(const cache::SequenceCache& cache, int layer, int num_kv_heads,
                                 int window)
    : window_(window) {
  std::vector<std::vector<int32_t>> held;  // [num_kv_heads] positions
  for (int head = 0; head < num_kv_heads; ++head) {
    held.push_back(cache.Positions(layer, head));
    held.back().resize(held.back().size() - window);
    num_entries_.push_back(static_cast<int32_t>(held.back().size()));
    if (held.back() == positions_) continue;  // most often: nothing was evicted from the layer
    std::vector<int32_t> joined;
    std::set_union(positions_.begin(), positions_.end(), held.back().begin(), held.back().end(),
                   std::back_inserter(joined));
    positions_ = std::move(joined);
  }
  for (const std::vector<int32_t>& positions : held) {
    is_complete_ = is_complete_ && positions.size() == positions_.size();
    std::vector<int32_t>& of_entries = of_entries_.emplace_back();
    of_entries.reserve(positions.size());
    int32_t candidate = 0;
    for (int32_t position : positions) {
      while (positions_[candidate] < position) ++candidate;
      of_entries.push_back(candidate);
    }
  }
}

int LayerCandidates::max_entries() const {
  return *std::max_element(num_entries_.begin(), num_entries_.end());
}

std::vector<uint8_t> LayerCandidates::Held() const {
  std::vector<uint8_t> held(of_entries_.size() * positions_.size(), 0);
  for (size_t head = 0; head < of_entries_.size(); ++head) {
    for (int32_t candidate : of_entries_[head]) held[head * positions_.size() + candidate] = 1;
  }
  return held;
}

std::vector<int32_t> LayerCandidates::Entries(int kv_head,
                                              absl::Span<const int32_t> selected) const {
  const std::vector<int32_t>& of_entries = of_entries_[kv_head];
  std::vector<int32_t> entries;
  entries.reserve(selected.size() + static_cast<size_t>(window_));
  int32_t entry = 0;
  for (int32_t candidate : selected) {
    while (of_entries[entry] < candidate) ++entry;
    entries.push_back(entry);
  }
  for (int i = 0; i < window_; ++i) entries.push_back(num_entries_[kv_head] + i);
  return entries;
}

}  // namespace kvec::worker::engine
