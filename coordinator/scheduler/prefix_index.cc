#include "coordinator/scheduler/prefix_index.h"

#include <algorithm>

namespace kvec::coordinator::scheduler {

PrefixIndex::Key PrefixIndex::MakeKey(uint64_t parent_id, absl::Span<const int32_t> tokens) {
  Key key{parent_id, {}};
  std::copy_n(tokens.begin(), kBlockTokens, key.second.begin());
  return key;
}

std::vector<uint64_t> PrefixIndex::Find(absl::Span<const int32_t> tokens) const {
  std::vector<uint64_t> found;
  for (; tokens.size() >= kBlockTokens; tokens.remove_prefix(kBlockTokens)) {
    const auto next = ids_.find(MakeKey(found.empty() ? 0 : found.back(), tokens));
    if (next == ids_.end() || next->second > last_published_id_) break;
    found.push_back(next->second);
  }
  return found;
}

uint64_t PrefixIndex::Add(uint64_t parent_id, absl::Span<const int32_t> tokens) {
  const Key key = MakeKey(parent_id, tokens);
  if (!ids_.try_emplace(key, last_id_ + 1).second) return 0;
  blocks_[++last_id_] = {.key = key, .num_users = 1, .unused = unused_.end()};
  return last_id_;
}

void PrefixIndex::Use(absl::Span<const uint64_t> block_ids) {
  for (uint64_t id : block_ids) {
    Block& block = blocks_.at(id);
    if (block.num_users++ == 0) unused_.erase(block.unused);
  }
}

void PrefixIndex::Release(absl::Span<const uint64_t> block_ids) {
  for (auto id = block_ids.rbegin(); id != block_ids.rend(); ++id) {
    Block& block = blocks_.at(*id);
    if (--block.num_users == 0) block.unused = unused_.insert(unused_.end(), *id);
  }
}

uint64_t PrefixIndex::Reclaim() {
  const uint64_t id = unused_.front();
  unused_.pop_front();
  const auto block = blocks_.find(id);
  ids_.erase(block->second.key);
  blocks_.erase(block);
  return id;
}

}  // namespace kvec::coordinator::scheduler
