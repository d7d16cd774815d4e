#ifndef KVEC_COORDINATOR_SCHEDULER_PREFIX_INDEX_H_
#define KVEC_COORDINATOR_SCHEDULER_PREFIX_INDEX_H_

#include <array>
#include <cstdint>
#include <list>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "coordinator/scheduler/page_demand.h"
#include "coordinator/scheduler/prefix_feed.h"

namespace kvec::coordinator::scheduler {

// Which tokens the blocks hold that the workers keep for prompts to come (cluster.proto,
// BlockKeep). A trie: a block follows its parent, and is found by that and by its own tokens.
// Blocks of equal size, as in vLLM's block pool, need no splitting and go one by one; comparing the
// tokens themselves, as SGLang's radix tree does, needs no trust in a hash.
//
// A block that no sequence uses may be reclaimed, the least recently used first. Whoever uses a
// block uses its parent, so a block's children go before it does. Knows nothing of pages; belongs
// to one group of workers and ends with it. Guarded by the scheduler's lock.
class PrefixIndex {
 public:
  static constexpr uint32_t kBlockTokens = kPageTokens;

  // Tells `feeds`, which must outlive it and may be null, what can be found, and at its own end
  // that nothing can any more.
  explicit PrefixIndex(PrefixFeeds* feeds = nullptr) : feeds_(feeds) {}
  ~PrefixIndex();
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // The blocks that hold the beginning of `tokens`, in order; not those added since the last
  // Publish.
  std::vector<uint64_t> Find(absl::Span<const int32_t> tokens) const;

  // Adds a block of kBlockTokens tokens after `parent_id` (0: at the beginning of a prompt), used
  // once, and returns its id; 0 when there is one with these tokens.
  uint64_t Add(uint64_t parent_id, absl::Span<const int32_t> tokens);
  // The workers have, or will have before anything else, what was added: it may be found.
  void Publish();

  // A sequence uses, or no longer uses, the blocks that hold its beginning.
  void Use(absl::Span<const uint64_t> block_ids);
  void Release(absl::Span<const uint64_t> block_ids);

  // Forgets the unused block that was used least recently, and returns its id. There must be one.
  uint64_t Reclaim();

  // What can be found, as if it were stored now: parents before their children.
  std::vector<PrefixEvent> State() const;

  uint32_t num_users(uint64_t block_id) const { return blocks_.at(block_id).num_users; }
  uint64_t num_blocks() const { return blocks_.size(); }
  uint64_t num_unused() const { return unused_.size(); }

 private:
  using Key = std::pair<uint64_t, std::array<int32_t, kBlockTokens>>;  // parent's id, tokens

  struct Block {
    Key key;
    uint32_t num_users = 0;
    std::list<uint64_t>::iterator unused;  // place in unused_ when num_users is 0
  };

  static Key MakeKey(uint64_t parent_id, absl::Span<const int32_t> tokens);
  bool HasFeeds() const { return feeds_ != nullptr && !feeds_->empty(); }
  PrefixEvent Stored(uint64_t block_id) const;
  void Tell(absl::Span<const PrefixEvent> events);

  PrefixFeeds* const feeds_;
  absl::flat_hash_map<Key, uint64_t> ids_;
  absl::flat_hash_map<uint64_t, Block> blocks_;
  std::list<uint64_t> unused_;  // least recently used first
  uint64_t last_id_ = 0;
  uint64_t last_published_id_ = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_PREFIX_INDEX_H_
