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

// Stored: an unsigned integer of the arena's element size; numbers are moved, not read.
template <typename Stored>
void MoveEntry(CpuKvArena& arena, Place from, Place to) {
  const int head_dim = arena.spec().head_dim;
  const auto* from_keys = reinterpret_cast<const Stored*>(arena.keys(from.page)) + from.offset;
  auto* to_keys = reinterpret_cast<Stored*>(arena.keys(to.page)) + to.offset;
  for (int dim = 0; dim < head_dim; ++dim) {
    to_keys[dim * kPageTokens] = from_keys[dim * kPageTokens];
  }
  std::memcpy(reinterpret_cast<Stored*>(arena.values(to.page)) + to.offset * head_dim,
              reinterpret_cast<const Stored*>(arena.values(from.page)) + from.offset * head_dim,
              static_cast<size_t>(head_dim) * sizeof(Stored));
  arena.positions(to.page)[to.offset] = arena.positions(from.page)[from.offset];
}

template <typename Stored>
void GatherHead(const GatherRequest& request, CpuKvArena& arena) {
  for (size_t i = 0; i < request.kept.size(); ++i) {
    const int32_t entry = request.kept[i];
    const Place from{request.head.pages[entry / kPageTokens], entry % kPageTokens};
    const Place to{request.to_pages[i / kPageTokens], static_cast<int>(i % kPageTokens)};
    if (from != to) MoveEntry<Stored>(arena, from, to);
  }
}

}  // namespace

void GatherEntries(ThreadPool& pool, absl::Span<const GatherRequest> requests, CpuKvArena& arena) {
  pool.ParallelFor(static_cast<int>(requests.size()), [&](int head) {
    const GatherRequest& request = requests[static_cast<size_t>(head)];
    if (KvTypeBytes(arena.spec().type) == 4) {
      GatherHead<uint32_t>(request, arena);
    } else {
      GatherHead<uint16_t>(request, arena);
    }
  });
}

}  // namespace kvec::kernels::cpu
