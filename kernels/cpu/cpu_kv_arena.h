#ifndef KVEC_KERNELS_CPU_CPU_KV_ARENA_H_
#define KVEC_KERNELS_CPU_CPU_KV_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/kv_arena.h"

namespace kvec::kernels::cpu {

// The arena in a process's memory: one mapping, on huge pages where the system grants them. The
// system backs a page with memory when it is first written.
//
// A page is its keys, then its values, in the arena's type:
//     keys   [head_dim][16 tokens]  the 16 scores of a query are one register, without horizontal
//     sums values [16 tokens][head_dim]
// and beside the pages lie the positions [num_pages][16]. Behind the last page there is room for
// one load of a full register that begins inside a row of values.
//
// Not synchronised: the device's operations run one after the other, and their threads write
// different entries.
class CpuKvArena : public KvArena {
 public:
  static constexpr int kMaxHeadDim = 512;

  ~CpuKvArena() override;
  CpuKvArena(const CpuKvArena&) = delete;
  CpuKvArena& operator=(const CpuKvArena&) = delete;

  const KvArenaSpec& spec() const override { return spec_; }
  size_t bytes() const override { return mapped_bytes_; }

  uint8_t* keys(int32_t page) { return pages_ + static_cast<size_t>(page) * page_bytes_; }
  const uint8_t* keys(int32_t page) const {
    return pages_ + static_cast<size_t>(page) * page_bytes_;
  }
  uint8_t* values(int32_t page) { return keys(page) + page_bytes_ / 2; }
  const uint8_t* values(int32_t page) const { return keys(page) + page_bytes_ / 2; }
  int32_t* positions(int32_t page) { return positions_ + static_cast<size_t>(page) * kPageTokens; }
  const int32_t* positions(int32_t page) const {
    return positions_ + static_cast<size_t>(page) * kPageTokens;
  }

 private:
  friend absl::StatusOr<std::unique_ptr<CpuKvArena>> CreateCpuKvArena(const KvArenaSpec& spec);
  CpuKvArena(const KvArenaSpec& spec, void* mapping, size_t mapped_bytes);

  const KvArenaSpec spec_;
  const size_t page_bytes_;
  void* const mapping_;
  const size_t mapped_bytes_;
  uint8_t* pages_;
  int32_t* positions_;
};

// INVALID_ARGUMENT for a head_dim that is no multiple of 8 up to kMaxHeadDim, or for no pages;
// RESOURCE_EXHAUSTED when the memory is not there.
absl::StatusOr<std::unique_ptr<CpuKvArena>> CreateCpuKvArena(const KvArenaSpec& spec);

// Copies whole pages, positions included. INVALID_ARGUMENT for a page that the arena has not.
absl::Status CopyPages(CpuKvArena& arena, absl::Span<const PageCopy> copies);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_CPU_KV_ARENA_H_
