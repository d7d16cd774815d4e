#ifndef KVEC_KERNELS_KV_ARENA_H_
#define KVEC_KERNELS_KV_ARENA_H_

#include <cstddef>
#include <cstdint>

namespace kvec::kernels {

// Tokens of one KV head of one layer in a page.
inline constexpr int kPageTokens = 16;

// kInt8: whole numbers of 8 bits, times an f16 scale per entry; see cpu/cpu_kv_arena.h.
enum class KvType : uint8_t { kBF16, kF16, kF32, kInt8 };

// Of one number.
inline size_t KvTypeBytes(KvType type) {
  return type == KvType::kInt8 ? 1 : type == KvType::kF32 ? 4 : 2;
}

struct KvArenaSpec {
  int head_dim = 0;
  KvType type = KvType::kBF16;
  int64_t num_pages = 0;

  // The numbers of a page's keys, or of its values.
  size_t numbers_bytes() const {
    return size_t{kPageTokens} * static_cast<size_t>(head_dim) * KvTypeBytes(type);
  }
  // The scales of a page's keys, or of its values: none but in int8.
  size_t scales_bytes() const {
    return type == KvType::kInt8 ? size_t{kPageTokens} * sizeof(uint16_t) : 0;
  }
  // Keys and values of a page, with their scales.
  size_t page_bytes() const { return 2 * (numbers_bytes() + scales_bytes()); }
};

// All key and value pages of a worker: one allocation, made once. How a page is laid out is the
// device's matter; who owns which page is worker/cache's. Beside its keys (after RoPE) and values an
// entry remembers its token's position.
class KvArena {
 public:
  virtual ~KvArena() = default;
  virtual const KvArenaSpec& spec() const = 0;
  virtual size_t bytes() const = 0;
};

struct PageCopy {
  int32_t from;
  int32_t to;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_KV_ARENA_H_
