#ifndef KVEC_WORKER_CACHE_KEPT_BLOCKS_H_
#define KVEC_WORKER_CACHE_KEPT_BLOCKS_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/cache/page_pool.h"
#include "worker/cache/sequence_cache.h"

namespace kvec::worker::cache {

// The blocks that a worker keeps so that prompts with the same beginning need no prefill of it: each
// is one page of every (layer, KV head), to which it holds a reference (cluster.proto, BlockKeep).
// Which tokens are in a block, and which block is to go when pages run short, only the coordinator
// knows. Owned by the engine and used from its thread only; `pool` must outlive it.
class KeptBlocks {
 public:
  explicit KeptBlocks(PagePool& pool) : pool_(pool) {}
  ~KeptBlocks() { Clear(); }
  KeptBlocks(const KeptBlocks&) = delete;
  KeptBlocks& operator=(const KeptBlocks&) = delete;

  // Keeps a sequence's page number `index` of every head. INTERNAL when the id is in use or the cache
  // no longer holds that block as it was filled.
  absl::Status Keep(uint64_t block_id, const SequenceCache& cache, int index);
  // INTERNAL for an unknown id.
  absl::Status Free(uint64_t block_id);
  // Gives the blocks' pages to an empty cache, to share. INTERNAL for an unknown id.
  absl::Status Share(absl::Span<const uint64_t> block_ids, SequenceCache& cache) const;

  void Clear();
  int size() const { return static_cast<int>(blocks_.size()); }

 private:
  PagePool& pool_;
  absl::flat_hash_map<uint64_t, std::vector<int32_t>> blocks_;  // id → page of [layer, KV head]
};

}  // namespace kvec::worker::cache

#endif  // KVEC_WORKER_CACHE_KEPT_BLOCKS_H_
