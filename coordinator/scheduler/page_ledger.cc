#include "coordinator/scheduler/page_ledger.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {
namespace {

// Of each head, after num_rows more rows, whatever its last page held.
uint64_t PagesOfGrowth(uint32_t num_rows) { return (num_rows + kPageTokens - 1) / kPageTokens; }

}  // namespace

PageLedger::PageLedger(std::vector<WorkerCapacity> workers, uint32_t max_chunk_rows,
                       PrefixFeeds* feeds)
    : max_chunk_rows_(max_chunk_rows), prefixes_(feeds) {
  for (WorkerCapacity& capacity : workers) {
    PageDemand demand(capacity.num_kv_heads, capacity.sliding_windows);
    const uint64_t total_pages = capacity.total_pages;
    for (uint32_t window : capacity.sliding_windows) can_share_ = can_share_ && window == 0;
    workers_.push_back({std::move(capacity), std::move(demand), 0, 0, total_pages});
  }
}

uint64_t PageLedger::PeakOf(const Reservation& reservation, uint32_t worker) const {
  const PageDemand& demand = workers_[worker].demand;
  if (!reservation.prefill.has_value()) return demand.Peak(reservation.num_rows, max_chunk_rows_);
  const PrefillBound& bound = *reservation.prefill;
  // How the selected entries are shared out to workers is not known.
  const uint64_t num_heads = demand.num_full_heads();
  const uint64_t max_entries =
      std::max(num_heads * bound.max_rows, bound.max_selected + num_heads * bound.more_rows);
  return demand.BoundedPeak(reservation.num_rows, max_chunk_rows_, max_entries);
}

absl::Status PageLedger::CheckFits(const Reservation& reservation) const {
  for (uint32_t w = 0; w < num_workers(); ++w) {
    const Worker& worker = workers_[w];
    const uint64_t needed =
        PeakOf(reservation, w) + reservation.num_forks * worker.demand.OnePerHead();
    if (needed <= worker.capacity.total_pages) continue;
    return absl::ResourceExhaustedError(absl::StrCat("kv pages: ", needed, " needed for ",
                                                     reservation.num_rows, " tokens on worker ", w,
                                                     ", which has ", worker.capacity.total_pages));
  }
  return absl::OkStatus();
}

uint64_t PageLedger::CopyPages(uint32_t worker, uint64_t num_blocks,
                               const std::optional<EvictionBound>& eviction) const {
  if (!eviction.has_value()) return 0;
  // How the selected entries are shared out to heads, and these to workers, is not known yet.
  const uint64_t num_heads = workers_[worker].demand.OnePerHead();
  const uint64_t kept = eviction->max_selected + num_heads * eviction->window;
  return std::min(num_heads * num_blocks, kept / kPageTokens + num_heads);
}

bool PageLedger::IsShort(const std::vector<uint64_t>& pages,
                         const std::vector<uint64_t>& reclaimed) const {
  for (size_t w = 0; w < workers_.size(); ++w) {
    const Worker& worker = workers_[w];
    const uint64_t used = worker.used + worker.unforeseen + pages[w];
    if (used > worker.capacity.total_pages + reclaimed[w]) return true;
  }
  return false;
}

std::vector<uint64_t> PageLedger::IdlePages() const {
  std::vector<uint64_t> pages(workers_.size(), 0);
  for (uint64_t sequence_id : idle_) {
    const Account& account = accounts_.at(sequence_id);
    for (size_t w = 0; w < workers_.size(); ++w) pages[w] += account.workers[w].charge;
  }
  return pages;
}

uint64_t PageLedger::NumIdleBlocks() const {
  absl::flat_hash_map<uint64_t, uint32_t> num_idle_users;
  uint64_t num_blocks = 0;
  for (uint64_t sequence_id : idle_) {
    for (uint64_t block_id : accounts_.at(sequence_id).block_ids) {
      if (++num_idle_users[block_id] == prefixes_.num_users(block_id)) ++num_blocks;
    }
  }
  return num_blocks;
}

void PageLedger::ReclaimBlock() {
  reclaimed_.block_ids.push_back(prefixes_.Reclaim());
  for (Worker& worker : workers_) worker.used -= worker.demand.OnePerHead();
}

bool PageLedger::MakeFree(const std::vector<uint64_t>& pages) {
  const std::vector<uint64_t> nothing(workers_.size(), 0);
  if (!IsShort(pages, nothing)) return true;
  // What others wait for in vain anyway is not given up.
  std::vector<uint64_t> all = IdlePages();
  const uint64_t num_blocks = prefixes_.num_unused() + NumIdleBlocks();
  for (size_t w = 0; w < workers_.size(); ++w) {
    all[w] += num_blocks * workers_[w].demand.OnePerHead();
  }
  if (IsShort(pages, all)) return false;
  do {
    if (prefixes_.num_unused() > 0) {
      ReclaimBlock();
    } else {
      const uint64_t sequence_id = idle_.front();
      reclaimed_.sequence_ids.push_back(sequence_id);
      Release(sequence_id);
    }
  } while (IsShort(pages, nothing));
  return true;
}

void PageLedger::SetIdle(uint64_t sequence_id) { idle_.push_back(sequence_id); }

bool PageLedger::IsIdle(uint64_t sequence_id) const {
  return std::find(idle_.begin(), idle_.end(), sequence_id) != idle_.end();
}

bool PageLedger::Resume(uint64_t sequence_id, uint32_t num_rows) {
  idle_.erase(std::find(idle_.begin(), idle_.end(), sequence_id));
  Account& account = accounts_.at(sequence_id);
  const uint32_t step_rows = std::min(max_chunk_rows_, num_rows - account.num_rows);
  std::vector<uint64_t> charges;
  std::vector<uint64_t> more;
  for (uint32_t w = 0; w < num_workers(); ++w) {
    // One page per head more than at the end: windows may begin a page earlier on the way.
    const uint64_t held = account.workers[w].charge;
    charges.push_back(std::max(
        held, PagesAtMost(account, w, num_rows, step_rows) + workers_[w].demand.OnePerHead()));
    more.push_back(charges.back() - held);
  }
  if (!MakeFree(more)) {
    idle_.push_back(sequence_id);
    return false;
  }
  for (uint32_t w = 0; w < num_workers(); ++w) Charge(account, w, charges[w]);
  account.reserved_rows = num_rows;
  return true;
}

bool PageLedger::Reserve(uint64_t sequence_id, const Reservation& reservation,
                         double keep_free_share) {
  const uint64_t num_blocks = reservation.block_ids.size();
  std::vector<OnWorker> on_workers(workers_.size());
  std::vector<uint64_t> needed;
  for (uint32_t w = 0; w < num_workers(); ++w) {
    const Worker& worker = workers_[w];
    OnWorker& on_worker = on_workers[w];
    const uint64_t peak = PeakOf(reservation, w);
    if (reservation.prefill.has_value()) on_worker.prefill_peak = peak;
    on_worker.copy_pages = CopyPages(w, num_blocks, reservation.eviction);
    on_worker.charge = peak + reservation.num_forks * worker.demand.OnePerHead() -
                       num_blocks * worker.demand.OnePerHead() + on_worker.copy_pages;
    needed.push_back(
        on_worker.charge +
        static_cast<uint64_t>(keep_free_share * static_cast<double>(worker.capacity.total_pages)));
  }
  prefixes_.Use(reservation.block_ids);  // what it shares is not reclaimed for it
  if (!MakeFree(needed)) {
    prefixes_.Release(reservation.block_ids);
    return false;
  }
  for (size_t w = 0; w < workers_.size(); ++w) workers_[w].used += on_workers[w].charge;
  Account& account = accounts_[sequence_id];
  account.num_rows = static_cast<uint32_t>(num_blocks) * kPageTokens;
  account.reserved_rows = reservation.num_rows;
  account.reserved_forks = reservation.num_forks;
  account.eviction = reservation.eviction;
  account.block_ids.assign(reservation.block_ids.begin(), reservation.block_ids.end());
  account.num_blocks = static_cast<uint32_t>(num_blocks);
  account.workers = std::move(on_workers);
  return true;
}

PageLedger::KeptBlocks PageLedger::KeepBlocks(uint64_t sequence_id,
                                              absl::Span<const int32_t> tokens) {
  Account& account = accounts_.at(sequence_id);
  KeptBlocks kept{.first_block = account.num_blocks, .block_ids = {}};
  const uint64_t most_blocks = tokens.size() / kPageTokens;
  if (!can_share_ || most_blocks <= account.num_blocks) return kept;
  std::vector<uint64_t> more_copies;
  for (uint32_t w = 0; w < num_workers(); ++w) {
    more_copies.push_back(CopyPages(w, most_blocks, account.eviction) -
                          account.workers[w].copy_pages);
  }
  if (!MakeFree(more_copies)) return kept;
  while (account.num_blocks < most_blocks) {
    const uint64_t parent_id = account.block_ids.empty() ? 0 : account.block_ids.back();
    const uint64_t id =
        prefixes_.Add(parent_id, tokens.subspan(account.num_blocks * kPageTokens, kPageTokens));
    if (id == 0) break;
    account.block_ids.push_back(id);
    kept.block_ids.push_back(id);
    ++account.num_blocks;
  }
  const uint64_t num_kept = kept.block_ids.size();
  for (uint32_t w = 0; w < num_workers(); ++w) {
    OnWorker& on_worker = account.workers[w];
    const uint64_t copies = CopyPages(w, account.num_blocks, account.eviction);
    const uint64_t block_pages = num_kept * workers_[w].demand.OnePerHead();
    Charge(account, w, on_worker.charge + copies - on_worker.copy_pages - block_pages);
    workers_[w].used += block_pages;
    on_worker.copy_pages = copies;
  }
  return kept;
}

uint64_t PageLedger::PagesAtMost(const Account& account, uint32_t worker, uint32_t num_rows,
                                 uint32_t step_rows) const {
  const PageDemand& demand = workers_[worker].demand;
  const OnWorker& on_worker = account.workers[worker];
  if (account.evicted_rows > 0 && account.shared != nullptr) {
    // A partial page of its own, and from there on a page at every 16th row: which row that is
    // differs from head to head.
    return demand.OnePerHead() * (1 + PagesOfGrowth(num_rows - account.forked_rows));
  }
  const uint32_t shared_pages =
      account.shared != nullptr ? account.forked_rows / kPageTokens : account.num_blocks;
  if (on_worker.first_evicted.num_rows == 0) {
    const uint64_t if_complete =
        demand.HeldInStep(num_rows, step_rows, shared_pages) + on_worker.copy_pages;
    if (on_worker.prefill_peak == 0 || account.shared != nullptr) return if_complete;
    const uint32_t more_rows = num_rows - std::min(num_rows, account.reserved_rows);
    return std::min(if_complete,
                    on_worker.prefill_peak + demand.OnePerHead() * PagesOfGrowth(more_rows));
  }
  const uint64_t if_complete = demand.HeldInStep(num_rows, step_rows, 0);
  const auto grown_from = [&](const Report& report) {
    return report.pages + demand.OnePerHead() * PagesOfGrowth(num_rows - report.num_rows);
  };
  return std::min({if_complete, grown_from(on_worker.first_evicted), grown_from(on_worker.last)});
}

void PageLedger::Charge(Account& account, uint32_t worker, uint64_t pages) {
  workers_[worker].used += pages;
  workers_[worker].used -= account.workers[worker].charge;
  account.workers[worker].charge = pages;
}

bool PageLedger::Grow(uint64_t sequence_id, uint32_t num_rows) {
  Account& account = accounts_.at(sequence_id);
  const uint32_t rows_after = account.num_rows + num_rows;
  if (rows_after > account.reserved_rows) {
    const auto needed = [&](uint32_t w) {
      return std::max(account.workers[w].charge, PagesAtMost(account, w, rows_after, num_rows));
    };
    std::vector<uint64_t> more;
    for (uint32_t w = 0; w < num_workers(); ++w) {
      more.push_back(needed(w) - account.workers[w].charge);
    }
    if (!MakeFree(more)) return false;
    for (uint32_t w = 0; w < num_workers(); ++w) Charge(account, w, needed(w));
  }
  account.num_rows = rows_after;
  in_step_.push_back(sequence_id);
  return true;
}

void PageLedger::Fork(uint64_t parent_id, uint64_t child_id) {
  Account child = accounts_.at(parent_id);
  Account& parent = accounts_.at(parent_id);
  if (parent.shared == nullptr) {
    parent.shared = std::make_shared<SharedPrompt>();
    parent.shared->num_sequences = 1;
    for (uint32_t w = 0; w < num_workers(); ++w) {
      const PageDemand& demand = workers_[w].demand;
      const uint64_t pages =
          parent.evicted_rows > 0
              ? PagesAtMost(child, w, child.num_rows, 0)
              : demand.HeldOfFirst(parent.num_rows / kPageTokens, parent.num_rows) -
                    parent.num_blocks * demand.OnePerHead();
      parent.shared->pages.push_back(pages);
      workers_[w].used += pages;
    }
    parent.forked_rows = parent.num_rows;
    for (uint32_t w = 0; w < num_workers(); ++w) {
      Charge(parent, w,
             PagesAtMost(parent, w, parent.num_rows, 0) +
                 parent.reserved_forks * workers_[w].demand.OnePerHead());
    }
  }
  --parent.reserved_forks;
  ++parent.shared->num_sequences;
  child.shared = parent.shared;
  child.forked_rows = parent.forked_rows;
  child.reserved_rows = 0;
  child.reserved_forks = 0;
  prefixes_.Use(child.block_ids);
  for (uint32_t w = 0; w < num_workers(); ++w) {
    const uint64_t partial_pages = workers_[w].demand.OnePerHead();
    Charge(parent, w, parent.workers[w].charge - partial_pages);
    const OnWorker& of_parent = parent.workers[w];
    child.workers[w] = OnWorker();
    child.workers[w].charge = partial_pages;
    child.workers[w].kept_entries = of_parent.kept_entries;
    child.workers[w].kept_rows = of_parent.kept_rows;
    workers_[w].used += partial_pages;
  }
  accounts_[child_id] = std::move(child);
  in_step_.push_back(child_id);
}

void PageLedger::EndForks(uint64_t parent_id) {
  const auto found = accounts_.find(parent_id);
  if (found == accounts_.end()) return;
  found->second.reserved_forks = 0;
  Settle(found->second);
}

void PageLedger::Evict(uint64_t sequence_id) {
  Account& account = accounts_.at(sequence_id);
  account.evicted_rows = account.num_rows;
}

void PageLedger::Release(uint64_t sequence_id) {
  const auto found = accounts_.find(sequence_id);
  if (found == accounts_.end()) return;
  Account& account = found->second;
  idle_.erase(std::remove(idle_.begin(), idle_.end(), sequence_id), idle_.end());
  prefixes_.Release(account.block_ids);
  for (uint32_t w = 0; w < num_workers(); ++w) Charge(account, w, 0);
  if (account.shared != nullptr && --account.shared->num_sequences == 0) {
    for (uint32_t w = 0; w < num_workers(); ++w) workers_[w].used -= account.shared->pages[w];
  }
  accounts_.erase(found);
}

void PageLedger::Settle(Account& account) {
  if (account.num_rows < account.reserved_rows) return;
  for (uint32_t w = 0; w < num_workers(); ++w) {
    Charge(account, w,
           PagesAtMost(account, w, account.num_rows, 0) +
               account.reserved_forks * workers_[w].demand.OnePerHead());
  }
}

std::vector<uint64_t> PageLedger::EndStep() {
  for (uint64_t sequence_id : in_step_) {
    const auto found = accounts_.find(sequence_id);
    if (found == accounts_.end()) continue;
    Account& account = found->second;
    Settle(account);
    if (account.evicted_rows == 0) continue;
    // What it shared it has copied when the Step has run.
    prefixes_.Release(account.block_ids);
    account.block_ids.clear();
  }
  in_step_.clear();
  prefixes_.Publish();
  std::vector<uint64_t> used;
  used.reserve(workers_.size());
  for (const Worker& worker : workers_) used.push_back(worker.used);
  return used;
}

bool PageLedger::AwaitsEviction(uint64_t sequence_id) const {
  const Account& account = accounts_.at(sequence_id);
  if (account.evicted_rows == 0 || account.shared != nullptr) return false;
  return std::any_of(account.workers.begin(), account.workers.end(),
                     [&](const OnWorker& on_worker) {
                       return on_worker.first_evicted.num_rows < account.evicted_rows;
                     });
}

void PageLedger::OnSequencePages(uint32_t worker, uint64_t sequence_id, uint64_t pages,
                                 uint32_t num_rows) {
  const auto found = accounts_.find(sequence_id);
  if (found == accounts_.end()) return;
  Account& account = found->second;
  OnWorker& on_worker = account.workers[worker];
  on_worker.last = {num_rows, pages};
  if (account.evicted_rows == 0 || num_rows < account.evicted_rows) return;
  if (on_worker.first_evicted.num_rows < account.evicted_rows) {
    on_worker.first_evicted = on_worker.last;
  }
  Settle(account);
}

void PageLedger::OnPeakPages(uint32_t worker, uint64_t sequence_id, uint64_t pages) {
  const auto found = accounts_.find(sequence_id);
  if (found != accounts_.end()) found->second.workers[worker].peak_pages = pages;
}

void PageLedger::OnEviction(uint32_t worker, uint64_t sequence_id, uint64_t kept_entries,
                            uint32_t num_rows) {
  const auto found = accounts_.find(sequence_id);
  if (found == accounts_.end()) return;
  found->second.workers[worker].kept_entries = kept_entries;
  found->second.workers[worker].kept_rows = num_rows;
}

absl::Status PageLedger::OnFreePages(uint32_t worker, uint64_t free_pages, uint64_t used_at_most) {
  Worker& at = workers_[worker];
  if (free_pages > at.capacity.total_pages) {
    return absl::InternalError(absl::StrCat("worker ", worker, ": free_pages ", free_pages, " of ",
                                            at.capacity.total_pages));
  }
  const uint64_t used = at.capacity.total_pages - free_pages;
  if (used_at_most == 0 && used > 0) {
    return absl::InternalError(
        absl::StrCat("worker ", worker, ": ", used, " pages are used, but no sequence has any"));
  }
  at.reported_free = free_pages;
  at.unforeseen = used - std::min(used, used_at_most);
  return absl::OkStatus();
}

uint64_t PageLedger::EntriesOf(const Account& account, uint32_t worker, bool is_first_fork) const {
  const WorkerCapacity& capacity = workers_[worker].capacity;
  const PageDemand& demand = workers_[worker].demand;
  const OnWorker& on_worker = account.workers[worker];
  // Those that no eviction was about. Layers with a window are not evicted from.
  uint64_t entries =
      demand.Entries(account.num_rows) - demand.num_full_heads() * uint64_t{on_worker.kept_rows};
  if (!is_first_fork) {
    entries =
        std::min<uint64_t>(entries, demand.OnePerHead() * (account.num_rows - account.forked_rows));
  }
  const uint64_t num_own_heads = capacity.num_kv_heads - capacity.num_repeated_kv_heads;
  return entries * num_own_heads / capacity.num_kv_heads +
         (is_first_fork ? on_worker.kept_entries : 0);
}

PageLedger::Bytes PageLedger::TakeBytes(uint64_t sequence_id) {
  Bytes bytes;
  const auto found = accounts_.find(sequence_id);
  if (found == accounts_.end()) return bytes;
  const Account& account = found->second;
  const bool is_first = account.shared == nullptr || !account.shared->is_counted;
  for (uint32_t w = 0; w < num_workers(); ++w) {
    const PageDemand& demand = workers_[w].demand;
    const OnWorker& on_worker = account.workers[w];
    const uint64_t shared_pages = account.shared != nullptr ? account.shared->pages[w] : 0;
    uint64_t pages = on_worker.last.num_rows > 0
                         ? on_worker.last.pages
                         : PagesAtMost(account, w, account.num_rows, 0) + shared_pages +
                               account.block_ids.size() * demand.OnePerHead();
    uint64_t peak_pages = std::max(pages, on_worker.peak_pages);
    if (!is_first) {
      pages -= std::min(pages, shared_pages);
      peak_pages -= std::min(peak_pages, shared_pages);
    }
    const uint64_t page_bytes = workers_[w].capacity.page_bytes;
    bytes.pages += pages * page_bytes;
    bytes.peak_pages += peak_pages * page_bytes;
    bytes.entries += EntriesOf(account, w, is_first) * (page_bytes / kPageTokens);
  }
  if (account.shared != nullptr) account.shared->is_counted = true;
  return bytes;
}

std::vector<uint64_t> PageLedger::reclaimable_pages() const {
  std::vector<uint64_t> pages = IdlePages();
  const uint64_t num_blocks = prefixes_.num_unused() + NumIdleBlocks();
  for (size_t w = 0; w < workers_.size(); ++w) {
    pages[w] += num_blocks * workers_[w].demand.OnePerHead();
  }
  return pages;
}

std::vector<uint64_t> PageLedger::reported_free_pages() const {
  std::vector<uint64_t> free_pages;
  for (const Worker& worker : workers_) free_pages.push_back(worker.reported_free);
  return free_pages;
}

}  // namespace kvec::coordinator::scheduler
