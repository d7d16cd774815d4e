#ifndef KVEC_COORDINATOR_SCHEDULER_PAGE_LEDGER_H_
#define KVEC_COORDINATOR_SCHEDULER_PAGE_LEDGER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "coordinator/scheduler/page_demand.h"
#include "coordinator/scheduler/prefix_index.h"
#include "coordinator/scheduler/scheduler.h"

namespace kvec::coordinator::scheduler {

// What the scheduler knows of the pages of one group's workers. It runs ahead of them: a sequence
// is charged for what it will hold when all Steps composed so far have run, so that a Step never
// finds the pool empty. Nothing was evicted from most sequences, and their pages follow from their
// length (PageDemand); for the others the workers' reports count.
//
// A Step's composition ends with EndStep: until then the charge of a sequence that has work in it
// is what it holds while the Step runs, pages that slide out at its end included.
//
// Blocks that the workers keep are charged apart from the sequences that share them. Those that
// nobody uses are reclaimed before anything is said not to fit.
class PageLedger {
 public:
  // Sequences grow by at most max_chunk_rows in a Step. `feeds` may be null: see PrefixIndex.
  PageLedger(std::vector<WorkerCapacity> workers, uint32_t max_chunk_rows,
             PrefixFeeds* feeds = nullptr);

  // What an eviction leaves on all workers.
  struct EvictionBound {
    uint64_t max_selected = 0;  // entries of all layers and heads
    uint32_t window = 0;        // entries of each head beside these
  };

  // Evictions on the way to a prompt's end. Until the first of them every head has at most max_rows
  // entries; from there on a worker's heads without a sliding window have at most max_selected
  // together and more_rows each beside these.
  struct PrefillBound {
    uint32_t max_rows = 0;
    uint64_t max_selected = 0;
    uint32_t more_rows = 0;
  };

  struct Reservation {
    uint32_t num_rows = 0;   // reached in chunks
    uint32_t num_forks = 0;  // made when they are reached
    // Kept blocks that hold the first rows, as PrefixIndex::Find gave them; none with `prefill`.
    absl::Span<const uint64_t> block_ids = {};
    // Of the eviction to come: pages that are shared can't be compacted in place.
    std::optional<EvictionBound> eviction = {};
    std::optional<PrefillBound> prefill = {};
  };

  // RESOURCE_EXHAUSTED when this were too much for an empty pool.
  absl::Status CheckFits(const Reservation& reservation) const;

  // Opens an account for a sequence and charges it for what it will need, if that much is free and
  // leaves keep_free_share of the pool.
  bool Reserve(uint64_t sequence_id, const Reservation& reservation, double keep_free_share);
  // The sequence gets num_rows more rows in the Step being composed. False, with nothing changed,
  // when they do not fit.
  bool Grow(uint64_t sequence_id, uint32_t num_rows);
  // Consecutive blocks of a sequence that the Step being composed is to keep.
  struct KeptBlocks {
    uint32_t first_block = 0;
    std::vector<uint64_t> block_ids;
  };
  // Keeps the blocks that hold `tokens`, the sequence's first rows, which are queued: the full ones
  // that are not kept yet, as far as no other sequence's block has the same tokens. None when there
  // is no room for the copies that the sequence's eviction would then have to make.
  KeptBlocks KeepBlocks(uint64_t sequence_id, absl::Span<const int32_t> tokens);
  // Kept blocks and idle sequences that the Step being composed is to free.
  struct Reclaimed {
    std::vector<uint64_t> block_ids;
    std::vector<uint64_t> sequence_ids;
  };
  Reclaimed TakeReclaimed() { return std::exchange(reclaimed_, {}); }

  // The sequence stays as it is until it is resumed or released, or its pages are needed: those of
  // idle sequences are reclaimed after the kept blocks, the least recently used first.
  void SetIdle(uint64_t sequence_id);
  // Whether it is there, and idle.
  bool IsIdle(uint64_t sequence_id) const;
  // Reserves what an idle sequence needs to grow to num_rows rows. False, and it stays idle, when
  // that does not fit.
  bool Resume(uint64_t sequence_id, uint32_t num_rows);

  // Opens an account for a fork, out of the parent's reservation. If the parent was evicted from,
  // all workers have reported that.
  void Fork(uint64_t parent_id, uint64_t child_id);
  // No more forks: what is left of their reservation is free.
  void EndForks(uint64_t parent_id);
  // The Step being composed orders an eviction after the rows queued so far.
  void Evict(uint64_t sequence_id);
  // The Step being composed frees the sequence.
  void Release(uint64_t sequence_id);

  // Ends a Step's composition. Returns, per worker, the most pages used after the Step.
  std::vector<uint64_t> EndStep();

  // Whether it shares pages with forks, or did.
  bool IsForked(uint64_t sequence_id) const { return accounts_.at(sequence_id).shared != nullptr; }
  // Whether an eviction was ordered that some worker has not reported yet.
  bool AwaitsEviction(uint64_t sequence_id) const;

  // A worker's report after a Step at whose end the sequence has num_rows rows.
  void OnSequencePages(uint32_t worker, uint64_t sequence_id, uint64_t pages, uint32_t num_rows);
  // The most pages that the sequence has held on a worker.
  void OnPeakPages(uint32_t worker, uint64_t sequence_id, uint64_t pages);
  // What an eviction after num_rows rows kept on a worker, all layers and heads.
  void OnEviction(uint32_t worker, uint64_t sequence_id, uint64_t kept_entries, uint32_t num_rows);
  // A worker's free pages after a Step for which EndStep gave used_at_most. INTERNAL when they
  // cannot be right.
  absl::Status OnFreePages(uint32_t worker, uint64_t free_pages, uint64_t used_at_most);

  struct Bytes {
    uint64_t pages = 0;       // whole pages
    uint64_t entries = 0;     // entries in them; those of a KV head on several ranks once
    uint64_t peak_pages = 0;  // whole pages, the most that were held at a time
  };
  // What a sequence holds on all workers; pages that forks share are counted for the first one
  // asked for only.
  Bytes TakeBytes(uint64_t sequence_id);

  // Whether pages can be shared between requests: not where some slide out of a window, which a
  // later request would miss.
  bool can_share() const { return can_share_; }
  const PrefixIndex& prefixes() const { return prefixes_; }
  // Per worker, in kept blocks that no sequence uses and in idle sequences.
  std::vector<uint64_t> reclaimable_pages() const;

  uint32_t num_workers() const { return static_cast<uint32_t>(workers_.size()); }
  std::vector<uint64_t> reported_free_pages() const;

 private:
  // The leading pages of a prompt, shared by the forks that go on from it.
  struct SharedPrompt {
    std::vector<uint64_t> pages;  // [workers]
    uint32_t num_sequences = 0;
    bool is_counted = false;  // by TakeBytes
  };

  // A worker's word: after num_rows rows the sequence held these pages.
  struct Report {
    uint32_t num_rows = 0;  // 0: none yet
    uint64_t pages = 0;
  };

  struct OnWorker {
    uint64_t charge = 0;
    Report last;
    uint64_t copy_pages = 0;    // reserved for the first eviction's copies of shared pages
    uint64_t prefill_peak = 0;  // up to reserved_rows, where evictions bound it; 0: they do not
    Report first_evicted;       // the first one since the last eviction that was reported
    uint64_t kept_entries = 0;  // by that eviction
    uint32_t kept_rows = 0;     // num_rows then
    uint64_t peak_pages = 0;    // the most that were held, by the last report
  };

  struct Account {
    uint32_t num_rows = 0;
    uint32_t reserved_rows = 0;
    uint32_t reserved_forks = 0;
    uint32_t evicted_rows = 0;  // num_rows at the last eviction ordered; 0: none
    uint32_t forked_rows = 0;   // num_rows when it was forked from, or made; 0: neither
    std::shared_ptr<SharedPrompt> shared;
    std::optional<EvictionBound> eviction;  // to come
    std::vector<uint64_t> block_ids;        // in use; empty again after the eviction
    // Leading pages of each head that blocks are charged for; those of an eviction, until it is
    // reported.
    uint32_t num_blocks = 0;
    std::vector<OnWorker> workers;
  };

  struct Worker {
    WorkerCapacity capacity;
    PageDemand demand;
    uint64_t used = 0;        // charged
    uint64_t unforeseen = 0;  // reported as used beyond what was charged
    uint64_t reported_free = 0;
  };

  // Entries that a sequence holds on a worker, without KV heads that a rank before it holds.
  uint64_t EntriesOf(const Account& account, uint32_t worker, bool is_first_fork) const;
  // Without forks, and as if nothing were shared.
  uint64_t PeakOf(const Reservation& reservation, uint32_t worker) const;
  // Pages held after `num_rows` rows, at most; with step_rows > 0 while the last step_rows of them
  // run.
  uint64_t PagesAtMost(const Account& account, uint32_t worker, uint32_t num_rows,
                       uint32_t step_rows) const;
  // Pages that an eviction copies at most when the first num_blocks pages of each head are shared.
  uint64_t CopyPages(uint32_t worker, uint64_t num_blocks,
                     const std::optional<EvictionBound>& eviction) const;
  // Reclaims blocks and idle sequences until every worker has this many pages free, [workers].
  // False, with nothing changed, when all of them would not do.
  bool MakeFree(const std::vector<uint64_t>& pages);
  // Whether a worker had too few pages free if `reclaimed` of it were given up, [workers].
  bool IsShort(const std::vector<uint64_t>& pages, const std::vector<uint64_t>& reclaimed) const;
  // Held by idle sequences, without kept blocks; [workers].
  std::vector<uint64_t> IdlePages() const;
  // Kept blocks that only idle sequences use.
  uint64_t NumIdleBlocks() const;
  void ReclaimBlock();
  void Charge(Account& account, uint32_t worker, uint64_t pages);
  void Settle(Account& account);

  const uint32_t max_chunk_rows_;
  bool can_share_ = true;
  PrefixIndex prefixes_;
  std::vector<uint64_t> idle_;  // sequences, least recently used first
  Reclaimed reclaimed_;         // for the Step being composed
  std::vector<Worker> workers_;
  absl::flat_hash_map<uint64_t, Account> accounts_;  // by sequence id
  std::vector<uint64_t> in_step_;  // sequences with work in the Step being composed
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_PAGE_LEDGER_H_
