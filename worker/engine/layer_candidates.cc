#include "worker/engine/layer_candidates.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvec::worker::engine {

LayerCandidates::LayerCandidates(std::vector<std::vector<int32_t>> positions,
                                 const Options& options)
    : options_(options) {
  for (std::vector<int32_t>& held : positions) {
    held.resize(held.size() - static_cast<size_t>(options_.window));
    if (held == positions_) continue;  // most often: nothing was evicted from the layer
    std::vector<int32_t> joined;
    std::set_union(positions_.begin(), positions_.end(), held.begin(), held.end(),
                   std::back_inserter(joined));
    positions_ = std::move(joined);
  }
  for (const std::vector<int32_t>& held : positions) {
    is_complete_ = is_complete_ && held.size() == positions_.size();
    std::vector<int32_t>& of_entries = of_entries_.emplace_back();
    of_entries.reserve(held.size());
    int32_t candidate = 0;
    for (int32_t position : held) {
      while (positions_[candidate] < position) ++candidate;
      of_entries.push_back(candidate);
    }
  }
  for (int head = 0; head < options_.num_kv_heads; ++head) {
    num_entries_.push_back(static_cast<int32_t>(OfEntries(head).size()));
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
  const absl::Span<const int32_t> of_entries = OfEntries(kv_head);
  std::vector<int32_t> entries;
  entries.reserve(selected.size() + static_cast<size_t>(options_.window));
  int32_t entry = 0;
  for (int32_t candidate : selected) {
    while (of_entries[entry] < candidate) ++entry;
    entries.push_back(entry);
  }
  for (int i = 0; i < options_.window; ++i) entries.push_back(num_entries_[kv_head] + i);
  return entries;
}

}  // namespace kvec::worker::engine
