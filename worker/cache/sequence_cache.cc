#include "worker/cache/sequence_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace kvec::worker::cache {
namespace {

using kernels::kPageTokens;

int32_t PagesFor(int32_t num_entries) { return (num_entries + kPageTokens - 1) / kPageTokens; }

}  // namespace

SequenceCache::SequenceCache(const CacheShape& shape, PagePool& pool)
    : shape_(shape),
      pool_(pool),
      tables_(static_cast<size_t>(shape.num_layers()) * shape.num_kv_heads),
      views_(tables_.size()) {}

SequenceCache::~SequenceCache() {
  for (const HeadTable& table : tables_) {
    for (size_t i = table.num_released; i < table.pages.size(); ++i) pool_.Release(table.pages[i]);
  }
}

int64_t SequenceCache::PagesToAppend(int num_tokens) const {
  int64_t pages = 0;
  for (const HeadTable& table : tables_) {
    pages += PagesFor(table.num_entries + num_tokens) - static_cast<int64_t>(table.pages.size());
  }
  return pages;
}

absl::Status SequenceCache::Append(int num_tokens) {
  const int64_t needed = PagesToAppend(num_tokens);
  if (needed > pool_.num_free()) {
    return absl::ResourceExhaustedError(absl::StrCat("kv pages: ", needed, " needed for ",
                                                     num_tokens, " tokens, ", pool_.num_free(),
                                                     " free"));
  }
  for (size_t index = 0; index < tables_.size(); ++index) {
    HeadTable& table = tables_[index];
    table.num_entries += num_tokens;
    const size_t pages = PagesFor(table.num_entries);
    while (table.pages.size() < pages) table.pages.push_back(pool_.Allocate());
    RefreshView(static_cast<int>(index));
  }
  num_tokens_ += num_tokens;
  num_pages_ += needed;
  peak_pages_ = std::max(peak_pages_, num_pages_);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> SequenceCache::BlockPages(int index) const {
  std::vector<int32_t> pages;
  pages.reserve(tables_.size());
  for (const HeadTable& table : tables_) {
    if (table.num_entries != num_tokens_ || table.num_released > index ||
        table.num_entries < (index + 1) * kPageTokens) {
      return absl::InternalError(absl::StrCat("block ", index, ": a head of ", num_tokens_,
                                              " tokens has ", table.num_entries, " entries, ",
                                              table.num_released, " pages slid out"));
    }
    pages.push_back(table.pages[index]);
  }
  return pages;
}

void SequenceCache::AppendShared(absl::Span<const int32_t> block_pages) {
  for (size_t index = 0; index < tables_.size(); ++index) {
    HeadTable& table = tables_[index];
    CHECK_EQ(table.num_entries % kPageTokens, 0) << "a head's last page is not full";
    pool_.AddReference(block_pages[index]);
    table.pages.push_back(block_pages[index]);
    table.num_entries += kPageTokens;
    RefreshView(static_cast<int>(index));
  }
  num_tokens_ += kPageTokens;
  num_pages_ += static_cast<int64_t>(tables_.size());
}

void SequenceCache::ReleaseSlidOut() {
  for (int layer = 0; layer < shape_.num_layers(); ++layer) {
    const int window = shape_.sliding_windows[layer];
    if (window == 0) continue;
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      HeadTable& table = tables_[layer * shape_.num_kv_heads + head];
      // The next token, at entry num_entries, sees num_entries - window + 1 and later.
      const int32_t first_seen = std::max(0, table.num_entries - window + 1);
      const int32_t first_page = first_seen / kPageTokens;
      for (; table.num_released < first_page; ++table.num_released) {
        pool_.Release(table.pages[table.num_released]);
        --num_pages_;
      }
    }
  }
}

absl::StatusOr<std::unique_ptr<SequenceCache>> SequenceCache::Fork(
    std::vector<kernels::PageCopy>& copies) const {
  const auto has_partial_page = [](const HeadTable& table) {
    return table.num_entries % kPageTokens != 0;
  };
  const int64_t needed = std::count_if(tables_.begin(), tables_.end(), has_partial_page);
  if (needed > pool_.num_free()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("kv pages: ", needed, " needed to fork, ", pool_.num_free(), " free"));
  }
  auto child = std::make_unique<SequenceCache>(shape_, pool_);
  for (size_t index = 0; index < tables_.size(); ++index) {
    HeadTable& table = child->tables_[index];
    table.pages = tables_[index].pages;
    table.num_released = tables_[index].num_released;
    table.num_entries = tables_[index].num_entries;
    table.positions = tables_[index].positions;
    const size_t num_shared = table.pages.size() - (has_partial_page(table) ? 1 : 0);
    for (size_t i = table.num_released; i < num_shared; ++i) pool_.AddReference(table.pages[i]);
    if (num_shared < table.pages.size()) {
      const int32_t page = pool_.Allocate();
      copies.push_back({table.pages.back(), page});
      table.pages.back() = page;
    }
    child->RefreshView(static_cast<int>(index));
  }
  child->num_tokens_ = num_tokens_;
  child->num_pages_ = num_pages_;
  child->peak_pages_ = num_pages_;
  return child;
}

absl::StatusOr<std::vector<kernels::GatherRequest>> SequenceCache::BeginEviction(
    int layer, absl::Span<const std::vector<int32_t>> kept) {
  const size_t first = static_cast<size_t>(layer) * shape_.num_kv_heads;
  const auto pages_kept = [&](int head) {
    return static_cast<size_t>(PagesFor(static_cast<int32_t>(kept[head].size())));
  };
  int64_t num_new = 0;
  for (int head = 0; head < shape_.num_kv_heads; ++head) {
    const HeadTable& table = tables_[first + head];
    for (size_t i = 0; i < pages_kept(head); ++i) num_new += pool_.references(table.pages[i]) > 1;
  }
  if (num_new > pool_.num_free()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "kv pages: ", num_new, " needed to evict from shared pages, ", pool_.num_free(), " free"));
  }
  std::vector<kernels::GatherRequest> requests;
  for (int head = 0; head < shape_.num_kv_heads; ++head) {
    HeadTable& table = tables_[first + head];
    for (int32_t entry : kept[head]) table.kept_positions.push_back(PositionOf(table, entry));
    for (size_t i = 0; i < pages_kept(head); ++i) {
      const int32_t page = table.pages[i];
      table.kept_pages.push_back(pool_.references(page) > 1 ? pool_.Allocate() : page);
    }
    requests.push_back({views_[first + head], kept[head], table.kept_pages.data()});
  }
  return requests;
}

void SequenceCache::FinishEviction(int layer) {
  const size_t first = static_cast<size_t>(layer) * shape_.num_kv_heads;
  for (size_t index = first; index < first + shape_.num_kv_heads; ++index) {
    HeadTable& table = tables_[index];
    num_pages_ -= static_cast<int64_t>(table.pages.size() - table.kept_pages.size());
    for (size_t i = 0; i < table.pages.size(); ++i) {
      const bool is_kept = i < table.kept_pages.size() && table.kept_pages[i] == table.pages[i];
      if (!is_kept) pool_.Release(table.pages[i]);
    }
    table.pages = std::exchange(table.kept_pages, {});
    table.resident.reset();
    table.positions = std::exchange(table.kept_positions, {});
    table.num_entries = static_cast<int32_t>(table.positions.size());
    RefreshView(static_cast<int>(index));
  }
}

absl::Span<const kernels::HeadPages> SequenceCache::Layer(int layer) const {
  return absl::MakeConstSpan(views_).subspan(static_cast<size_t>(layer) * shape_.num_kv_heads,
                                             shape_.num_kv_heads);
}

bool SequenceCache::IsEvicted(int layer) const {
  return !tables_[static_cast<size_t>(layer) * shape_.num_kv_heads].positions.empty();
}

int32_t SequenceCache::PositionOf(const HeadTable& table, int32_t entry) const {
  if (entry < static_cast<int32_t>(table.positions.size())) return table.positions[entry];
  return num_tokens_ - (table.num_entries - entry);
}

std::vector<int32_t> SequenceCache::Positions(int layer, int kv_head) const {
  const HeadTable& table = tables_[static_cast<size_t>(layer) * shape_.num_kv_heads + kv_head];
  std::vector<int32_t> positions(table.num_entries);
  for (int32_t entry = 0; entry < table.num_entries; ++entry) {
    positions[entry] = PositionOf(table, entry);
  }
  return positions;
}

void SequenceCache::RefreshView(int index) {
  HeadTable& table = tables_[index];
  views_[index] = {table.pages.data(), table.num_entries, &table.resident};
}

}  // namespace kvec::worker::cache
