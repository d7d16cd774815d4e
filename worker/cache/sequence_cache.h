#ifndef KVEC_WORKER_CACHE_SEQUENCE_CACHE_H_
#define KVEC_WORKER_CACHE_SEQUENCE_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/kv_arena.h"
#include "kernels/window_scores.h"
#include "worker/cache/page_pool.h"

namespace kvec::worker::cache {

// The part of the model that a worker caches.
struct CacheShape {
  int num_kv_heads = 0;              // of this rank
  std::vector<int> sliding_windows;  // [layers of this stage]; 0: full attention
  int num_layers() const { return static_cast<int>(sliding_windows.size()); }
};

// The page tables of one sequence: one per (layer, KV head), whose lengths may differ. Holds
// references to pages and releases them when it is destroyed. Used from the engine's thread only;
// `shape` and `pool` must outlive it.
class SequenceCache {
 public:
  SequenceCache(const CacheShape& shape, PagePool& pool);
  ~SequenceCache();
  SequenceCache(const SequenceCache&) = delete;
  SequenceCache& operator=(const SequenceCache&) = delete;

  // Pages that Append(num_tokens) would take from the pool.
  int64_t PagesToAppend(int num_tokens) const;

  // Makes room for num_tokens more entries in every head. RESOURCE_EXHAUSTED, with nothing changed,
  // when the pool has too few pages.
  absl::Status Append(int num_tokens);

  // The page number `index` of every head, [num_layers · num_kv_heads]: full, as it was filled.
  // INTERNAL when it is not full yet, or something was evicted or slid out before its end.
  absl::StatusOr<std::vector<int32_t>> BlockPages(int index) const;
  // Appends such pages, and shares them with whoever holds them. Every head must end at a page
  // border.
  void AppendShared(absl::Span<const int32_t> block_pages);

  // Releases the pages that no later token of a layer with a sliding window sees.
  void ReleaseSlidOut();

  // A sequence with the same entries. Full pages are shared; a partial last page is a new one, to
  // be filled by `copies`, which the caller must carry out before either sequence appends.
  // RESOURCE_EXHAUSTED when the pool has too few pages.
  absl::StatusOr<std::unique_ptr<SequenceCache>> Fork(std::vector<kernels::PageCopy>& copies) const;

  // Begins to shrink every head of a layer to `kept`, [num_kv_heads] ascending entries each: returns
  // the moves that the caller must carry out before it calls FinishEviction of the layer. Pages that
  // others share are not written: new ones take their place. RESOURCE_EXHAUSTED, with nothing
  // changed, when the pool has too few.
  absl::StatusOr<std::vector<kernels::GatherRequest>> BeginEviction(
      int layer, absl::Span<const std::vector<int32_t>> kept);
  // Releases what the layer's eviction has emptied.
  void FinishEviction(int layer);

  // Of a layer of this stage, [num_kv_heads]; valid until the next change.
  absl::Span<const kernels::HeadPages> Layer(int layer) const;
  // Whether anything was evicted from the layer, of this sequence or of the one that it was forked
  // from.
  bool IsEvicted(int layer) const;
  // Of a head's entries, ascending.
  std::vector<int32_t> Positions(int layer, int kv_head) const;

  // Tokens appended so far, evicted ones included: the position of the next one.
  int num_tokens() const { return num_tokens_; }
  int64_t num_pages() const { return num_pages_; }    // held, all layers and heads
  int64_t peak_pages() const { return peak_pages_; }  // the most that were held at a time

 private:
  struct HeadTable {
    std::vector<int32_t> pages;  // the first num_released ids are stale
    std::unique_ptr<kernels::ResidentTable> resident;  // of `pages`
    int32_t num_released = 0;
    int32_t num_entries = 0;
    // Of the entries that the last eviction has left. The tokens since then follow each other up to
    // the sequence's last.
    std::vector<int32_t> positions;
    // During an eviction: what will be left.
    std::vector<int32_t> kept_pages;
    std::vector<int32_t> kept_positions;
  };

  int32_t PositionOf(const HeadTable& table, int32_t entry) const;
  void RefreshView(int index);

  const CacheShape& shape_;
  PagePool& pool_;
  std::vector<HeadTable> tables_;            // [layer, KV head]
  std::vector<kernels::HeadPages> views_;    // [layer, KV head], of tables_
  int num_tokens_ = 0;
  int64_t num_pages_ = 0;
  int64_t peak_pages_ = 0;
};

}  // namespace kvec::worker::cache

#endif  // KVEC_WORKER_CACHE_SEQUENCE_CACHE_H_
