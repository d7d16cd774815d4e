#include "coordinator/scheduler/prefix_index.h"

#include <algorithm>

namespace kvec::coordinator::scheduler {

PrefixIndex::Key PrefixIndex::MakeKey(uint64_t parent_id, absl::Span<const int32_t> tokens) {
  Key key{parent_id, {}};
  std::copy_n(tokens.begin(), kBlockTokens, key.second.begin());
  return key;
}

PrefixIndex::~PrefixIndex() {
  if (HasFeeds()) feeds_->Publish({PrefixEvent()}, [] { return std::vector<PrefixEvent>(); });
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

void PrefixIndex::Publish() {
  const uint64_t last_known_id = std::exchange(last_published_id_, last_id_);
  if (!HasFeeds()) return;
  std::vector<PrefixEvent> events;
  for (uint64_t id = last_known_id + 1; id <= last_id_; ++id) {
    if (blocks_.contains(id)) events.push_back(Stored(id));
  }
  Tell(events);
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
  if (HasFeeds() && id <= last_published_id_) {
    Tell({PrefixEvent{.kind = PrefixEvent::Kind::kRemoved, .block_id = id}});
  }
  return id;
}

std::vector<PrefixEvent> PrefixIndex::State() const {
  std::vector<PrefixEvent> events;
  events.reserve(blocks_.size());
  for (const auto& [id, block] : blocks_) {
    if (id <= last_published_id_) events.push_back(Stored(id));
  }
  // A parent is added before its children.
  std::sort(events.begin(), events.end(),
            [](const PrefixEvent& a, const PrefixEvent& b) { return a.block_id < b.block_id; });
  return events;
}

PrefixEvent PrefixIndex::Stored(uint64_t block_id) const {
  const auto& [parent_id, tokens] = blocks_.at(block_id).key;
  return {.kind = PrefixEvent::Kind::kStored,
          .block_id = block_id,
          .parent_id = parent_id,
          .tokens = tokens};
}

void PrefixIndex::Tell(absl::Span<const PrefixEvent> events) {
  feeds_->Publish(events, [this] { return State(); });
}

}  // namespace kvec::coordinator::scheduler
