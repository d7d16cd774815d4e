#include "kernels/cpu/gather_entries.h"

#include <cstdint>
#include <cstring>

namespace kvec::kernels::cpu {
namespace {

// Where an entry lies.
struct Place {
  int32_t page;
  int offset;

  bool operator==(const Place&) const = default;
};

// Moves a key out of [count][kPageTokens] numbers or pairs of them, which are not read.
template <typename Stored>
void MoveKey(CpuKvArena& arena, int count, Place from, Place to) {
  const auto* from_keys = reinterpret_cast<const Stored*>(arena.keys(from.page)) + from.offset;
  auto* to_keys = reinterpret_cast<Stored*>(arena.keys(to.page)) + to.offset;
  for (int i = 0; i < count; ++i) to_keys[i * kPageTokens] = from_keys[i * kPageTokens];
}

// Stored: an unsigned integer of the arena's number size.
template <typename Stored>
void MoveEntry(CpuKvArena& arena, Place from, Place to) {
  const int head_dim = arena.spec().head_dim;
  MoveKey<Stored>(arena, head_dim, from, to);
  std::memcpy(reinterpret_cast<Stored*>(arena.values(to.page)) + to.offset * head_dim,
              reinterpret_cast<const Stored*>(arena.values(from.page)) + from.offset * head_dim,
              static_cast<size_t>(head_dim) * sizeof(Stored));
}

// Int8: numbers lie in pairs, and have scales.
template <>
void MoveEntry<uint8_t>(CpuKvArena& arena, Place from, Place to) {
  const int head_dim = arena.spec().head_dim;
  MoveKey<uint16_t>(arena, head_dim / 2, from, to);
  const auto values_at = [&](Place place) {
    return arena.values(place.page) + place.offset / 2 * 2 * head_dim + place.offset % 2;
  };
  const uint8_t* from_values = values_at(from);
  uint8_t* to_values = values_at(to);
  for (int dim = 0; dim < head_dim; ++dim) to_values[2 * dim] = from_values[2 * dim];
  arena.key_scales(to.page)[to.offset] = arena.key_scales(from.page)[from.offset];
  arena.value_scales(to.page)[to.offset] = arena.value_scales(from.page)[from.offset];
}

template <typename Stored>
void GatherHead(const GatherRequest& request, CpuKvArena& arena) {
  for (size_t i = 0; i < request.kept.size(); ++i) {
    const int32_t entry = request.kept[i];
    const Place from{request.head.pages[entry / kPageTokens], entry % kPageTokens};
    const Place to{request.to_pages[i / kPageTokens], static_cast<int>(i % kPageTokens)};
    if (from == to) continue;
    MoveEntry<Stored>(arena, from, to);
    arena.positions(to.page)[to.offset] = arena.positions(from.page)[from.offset];
  }
}

}  // namespace

void GatherEntries(ThreadPool& pool, absl::Span<const GatherRequest> requests, CpuKvArena& arena) {
  pool.ParallelFor(static_cast<int>(requests.size()), [&](int head) {
    const GatherRequest& request = requests[static_cast<size_t>(head)];
    switch (KvTypeBytes(arena.spec().type)) {
      case 1:
        return GatherHead<uint8_t>(request, arena);
      case 2:
        return GatherHead<uint16_t>(request, arena);
      default:
        return GatherHead<uint32_t>(request, arena);
    }
  });
}

}  // namespace kvec::kernels::cpu
