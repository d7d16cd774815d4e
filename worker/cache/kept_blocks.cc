#include "worker/cache/kept_blocks.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::cache {

absl::Status KeptBlocks::Keep(uint64_t block_id, const SequenceCache& cache, int index) {
  KVEC_ASSIGN_OR_RETURN(std::vector<int32_t> pages, cache.BlockPages(index));
  const auto [entry, is_new] = blocks_.try_emplace(block_id, std::move(pages));
  if (!is_new) return absl::InternalError(absl::StrCat("block ", block_id, ": kept twice"));
  for (int32_t page : entry->second) pool_.AddReference(page);
  return absl::OkStatus();
}

absl::Status KeptBlocks::Free(uint64_t block_id) {
  const auto found = blocks_.find(block_id);
  if (found == blocks_.end()) {
    return absl::InternalError(absl::StrCat("block ", block_id, ": not known, cannot free"));
  }
  for (int32_t page : found->second) pool_.Release(page);
  blocks_.erase(found);
  return absl::OkStatus();
}

absl::Status KeptBlocks::Share(absl::Span<const uint64_t> block_ids, SequenceCache& cache) const {
  for (uint64_t block_id : block_ids) {
    const auto found = blocks_.find(block_id);
    if (found == blocks_.end()) {
      return absl::InternalError(absl::StrCat("block ", block_id, ": not known, cannot share"));
    }
    cache.AppendShared(found->second);
  }
  return absl::OkStatus();
}

void KeptBlocks::Clear() {
  for (const auto& [id, pages] : blocks_) {
    for (int32_t page : pages) pool_.Release(page);
  }
  blocks_.clear();
}

}  // namespace kvec::worker::cache
