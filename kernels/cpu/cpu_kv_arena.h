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
//     keys    [head_dim][16 tokens]  the 16 scores of a query are one register, without horizontal
//                                    sums
//     values  [16 tokens][head_dim]
// and beside the pages lie the positions [num_pages][16]. Behind the last page there is room for
// one load of a full register that begins inside a row of values.
//
// In int8, pairs of numbers that are summed up lie together, as integer products want them, and the
// scales follow, an f16 per entry:
//     keys    [head_dim / 2][16 tokens][2 dimensions]
//     values  [8 pairs of tokens][head_dim][2 tokens]
//     scales  [16 tokens] of the keys, [16 tokens] of the values
// Keys are rotated by a Hadamard matrix first (hadamard-inl.h), as are the queries that meet them:
// it leaves q·k alone and spreads the few dimensions in which keys are large, to which all others
// would lose their bits. Chosen by the mean error of log-probabilities over 1,520 of the goldens
// (SmolLM2 / Gemma 3; a float32 cache has 0.0004 / 0.0026):
//     scale per entry, keys as they are             0.045 / 0.102
//     scale and offset per entry, keys as they are  0.030 / 0.087
//     offsets per channel and page, scale per entry 0.037 / 0.060  bits would depend on the chunks
//     scale per page, keys as they are              0.073 / 0.129  (and need all 16 tokens at once)
//     scale per page, keys rotated                  0.035 / 0.048  the same
//     keys' scale per channel and page              0.021 / 0.022  the same, and gathering entries
//                                                                  would round them again
//     scale per entry, keys rotated                 0.025 / 0.040  this one
//     the same with an offset on keys               0.022 / 0.034  another f16 and sum per entry
//     the same with a scale per 32 dimensions       0.022 / 0.033  not worth 3 % more bytes
// An f32 scale errs as much as an f16. Of the first line's errors, keys alone make 0.041 / 0.096,
// values alone 0.013 / 0.017: those need no rotation.
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
  uint8_t* values(int32_t page) { return keys(page) + numbers_bytes_; }
  const uint8_t* values(int32_t page) const { return keys(page) + numbers_bytes_; }
  // [kPageTokens] f16, in int8 only.
  uint16_t* key_scales(int32_t page) {
    return reinterpret_cast<uint16_t*>(keys(page) + 2 * numbers_bytes_);
  }
  const uint16_t* key_scales(int32_t page) const {
    return reinterpret_cast<const uint16_t*>(keys(page) + 2 * numbers_bytes_);
  }
  uint16_t* value_scales(int32_t page) { return key_scales(page) + kPageTokens; }
  const uint16_t* value_scales(int32_t page) const { return key_scales(page) + kPageTokens; }
  int32_t* positions(int32_t page) { return positions_ + static_cast<size_t>(page) * kPageTokens; }
  const int32_t* positions(int32_t page) const {
    return positions_ + static_cast<size_t>(page) * kPageTokens;
  }

 private:
  friend absl::StatusOr<std::unique_ptr<CpuKvArena>> CreateCpuKvArena(const KvArenaSpec& spec);
  CpuKvArena(const KvArenaSpec& spec, void* mapping, size_t mapped_bytes);

  const KvArenaSpec spec_;
  const size_t page_bytes_;
  const size_t numbers_bytes_;
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
