#include "coordinator/text/merge_table.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>

namespace kvec::coordinator::text {
namespace {

// Below this a scan for the best pair beats a heap; nearly all words are shorter.
constexpr size_t kFewIds = 24;
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void MergeTable::Add(int32_t left, int32_t right, int32_t merged) {
  merges_.try_emplace(PairKey(left, right), Merge{static_cast<uint32_t>(merges_.size()), merged});
}

const MergeTable::Merge* MergeTable::Find(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void MergeTable::Apply(std::vector<int32_t>& ids) const {
  if (ids.size() < 2) return;
  if (ids.size() <= kFewIds) {
    ApplyToFew(ids);
  } else {
    ApplyToMany(ids);
  }
}

void MergeTable::ApplyToFew(std::vector<int32_t>& ids) const {
  constexpr Merge kNoMerge = {kNoRank, -1};
  Merge merges[kFewIds];  // merges[i]: of ids[i] and ids[i + 1]
  const auto look_up = [&](size_t i) {
    const Merge* merge = Find(ids[i], ids[i + 1]);
    merges[i] = merge == nullptr ? kNoMerge : *merge;
  };
  size_t num_pairs = ids.size() - 1;
  for (size_t i = 0; i < num_pairs; ++i) look_up(i);
  while (num_pairs > 0) {
    const Merge* best = std::min_element(
        merges, merges + num_pairs, [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) return;
    const size_t i = best - merges;
    ids[i] = best->merged;
    ids.erase(ids.begin() + i + 1);
    std::copy(merges + i + 1, merges + num_pairs, merges + i);
    --num_pairs;
    if (i > 0) look_up(i - 1);
    if (i < num_pairs) look_up(i);
  }
}

void MergeTable::ApplyToMany(std::vector<int32_t>& ids) const {
  struct Links {
    uint32_t previous;
    uint32_t next;
  };
  const auto size = static_cast<uint32_t>(ids.size());
  std::vector<Links> links(size);
  for (uint32_t i = 0; i < size; ++i)
    links[i] = {i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1};

  // rank << 32 | index of the left id: the order in which merges apply. An entry is out of date
  // when its pair no longer has this rank, which only this pair of ids can have.
  const auto entry_of = [&](uint32_t left) -> uint64_t {
    const uint32_t right = links[left].next;
    const Merge* merge = right == kNone ? nullptr : Find(ids[left], ids[right]);
    return uint64_t{merge == nullptr ? kNoRank : merge->rank} << 32 | left;
  };
  const auto is_merge = [](uint64_t entry) { return entry >> 32 != kNoRank; };
  std::vector<uint64_t> entries;
  for (uint32_t i = 0; i < size; ++i) {
    if (const uint64_t entry = entry_of(i); is_merge(entry)) entries.push_back(entry);
  }
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue(std::greater<>(),
                                                                             std::move(entries));
  constexpr int32_t kMergedAway = -1;  // pairs with no id
  while (!queue.empty()) {
    const uint64_t entry = queue.top();
    queue.pop();
    const auto left = static_cast<uint32_t>(entry);
    if (entry_of(left) != entry) continue;
    const uint32_t right = links[left].next;
    ids[left] = Find(ids[left], ids[right])->merged;
    ids[right] = kMergedAway;
    links[left].next = links[right].next;
    if (links[left].next != kNone) links[links[left].next].previous = left;
    if (const uint64_t next = entry_of(left); is_merge(next)) queue.push(next);
    if (const uint32_t previous = links[left].previous; previous != kNone) {
      if (const uint64_t next = entry_of(previous); is_merge(next)) queue.push(next);
    }
  }
  std::erase(ids, kMergedAway);
}

}  // namespace kvec::coordinator::text
