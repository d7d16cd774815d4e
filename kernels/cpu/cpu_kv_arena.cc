#include "kernels/cpu/cpu_kv_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"

namespace kvec::kernels::cpu {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kRegisterBytes = 64;

size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// The mapping has room for a huge page more than is used.
uint8_t* AlignedToHugePage(void* mapping) {
  const size_t offset = reinterpret_cast<uintptr_t>(mapping) % kHugePageBytes;
  return static_cast<uint8_t*>(mapping) + (offset == 0 ? 0 : kHugePageBytes - offset);
}

// Of the pages and what follows the last of them.
size_t PagesBytes(const KvArenaSpec& spec) {
  return RoundUp(static_cast<size_t>(spec.num_pages) * spec.page_bytes() + kRegisterBytes,
                 kRegisterBytes);
}

absl::Status CheckSpec(const KvArenaSpec& spec) {
  if (spec.head_dim <= 0 || spec.head_dim > CpuKvArena::kMaxHeadDim || spec.head_dim % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("head_dim: ", spec.head_dim,
                                                   " is no multiple of 8 between 8 and ",
                                                   CpuKvArena::kMaxHeadDim));
  }
  if (spec.num_pages <= 0 || spec.num_pages > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_pages: ", spec.num_pages, " is not between 1 and 2147483647"));
  }
  return absl::OkStatus();
}

}  // namespace

CpuKvArena::CpuKvArena(const KvArenaSpec& spec, void* mapping, size_t mapped_bytes)
    : spec_(spec),
      page_bytes_(spec.page_bytes()),
      numbers_bytes_(spec.numbers_bytes()),
      mapping_(mapping),
      mapped_bytes_(mapped_bytes),
      pages_(AlignedToHugePage(mapping)),
      positions_(reinterpret_cast<int32_t*>(pages_ + PagesBytes(spec))) {}

CpuKvArena::~CpuKvArena() { munmap(mapping_, mapped_bytes_); }

absl::StatusOr<std::unique_ptr<CpuKvArena>> CreateCpuKvArena(const KvArenaSpec& spec) {
  if (absl::Status status = CheckSpec(spec); !status.ok()) return status;
  const size_t positions_bytes =
      static_cast<size_t>(spec.num_pages) * kPageTokens * sizeof(int32_t);
  const size_t bytes = PagesBytes(spec) + positions_bytes + kHugePageBytes;
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot map ", bytes, " bytes for ", spec.num_pages, " KV pages: ", std::strerror(errno)));
  }
  // A refusal costs speed only.
  (void)madvise(mapping, bytes, MADV_HUGEPAGE);
  return std::unique_ptr<CpuKvArena>(new CpuKvArena(spec, mapping, bytes));
}

absl::Status CopyPages(CpuKvArena& arena, absl::Span<const PageCopy> copies) {
  for (const PageCopy& copy : copies) {
    for (int32_t page : {copy.from, copy.to}) {
      if (page < 0 || page >= arena.spec().num_pages) {
        return absl::InvalidArgumentError(
            absl::StrCat("page: ", page, " is not among the arena's ", arena.spec().num_pages));
      }
    }
    if (copy.from == copy.to) continue;
    std::memcpy(arena.keys(copy.to), arena.keys(copy.from), arena.spec().page_bytes());
    std::memcpy(arena.positions(copy.to), arena.positions(copy.from),
                kPageTokens * sizeof(int32_t));
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
