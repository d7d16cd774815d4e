#include "tests/cusim/memory_region.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "tests/cusim/guard.h"

namespace kvec::cusim {
namespace {

constexpr size_t kAlignment = 512;  // cudaMalloc's, and a multiple of the guard's size

size_t RoundUp(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

unsigned char* Reserve(size_t bytes) {
  void* mapping = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  return static_cast<unsigned char*>(mapping);
}

}  // namespace

MemoryRegion::MemoryRegion(size_t capacity_bytes)
    : capacity_bytes_(RoundUp(capacity_bytes)), begin_(Reserve(capacity_bytes_)) {}

MemoryRegion::~MemoryRegion() {
  UnpoisonMemory(begin_, end_of_use_);
  munmap(begin_, capacity_bytes_);
}

void* MemoryRegion::Allocate(size_t bytes) {
  size_t offset = kGuardBytes;
  for (const auto& [used_offset, used_bytes] : allocations_) {  // first fit
    if (offset + bytes + kGuardBytes <= used_offset - kGuardBytes) break;
    offset = RoundUp(used_offset + used_bytes + kGuardBytes) + kGuardBytes;
  }
  if (bytes > capacity_bytes_ || offset + bytes + kGuardBytes > capacity_bytes_) return nullptr;
  const bool accessible = accessible_;
  SetAccessible(true);
  unsigned char* const memory = begin_ + offset;
  UnpoisonMemory(memory - kGuardBytes, bytes + 2 * kGuardBytes);
  std::memset(memory, kUnwrittenByte, bytes);
  MakeGuard(memory - kGuardBytes);
  MakeGuard(memory + bytes);
  SetAccessible(accessible);
  allocations_.emplace(offset, bytes);
  used_bytes_ += bytes;
  end_of_use_ = std::max(end_of_use_, offset + bytes + kGuardBytes);
  return memory;
}

bool MemoryRegion::Free(void* memory) {
  if (!Contains(memory)) return false;
  const auto found =
      allocations_.find(static_cast<size_t>(static_cast<unsigned char*>(memory) - begin_));
  if (found == allocations_.end()) return false;
  PoisonMemory(memory, found->second);
  used_bytes_ -= found->second;
  allocations_.erase(found);
  return true;
}

bool MemoryRegion::Contains(const void* memory) const {
  const auto* address = static_cast<const unsigned char*>(memory);
  return address >= begin_ && address < begin_ + capacity_bytes_;
}

bool MemoryRegion::Covers(const void* memory, size_t bytes) const {
  if (!Contains(memory)) return false;
  const size_t offset = static_cast<size_t>(static_cast<const unsigned char*>(memory) - begin_);
  auto after = allocations_.upper_bound(offset);
  if (after == allocations_.begin()) return false;
  const auto& [begin, size] = *--after;
  return offset + bytes <= begin + size;
}

std::string MemoryRegion::CheckGuards() const {
  for (const auto& [offset, bytes] : allocations_) {
    if (GuardIsIntact(begin_ + offset - kGuardBytes) && GuardIsIntact(begin_ + offset + bytes)) {
      continue;
    }
    return absl::StrCat("write outside an allocation of ", bytes, " bytes in device memory");
  }
  return "";
}

void MemoryRegion::SetAccessible(bool accessible) {
  if (accessible == accessible_) return;
  accessible_ = accessible;
  mprotect(begin_, capacity_bytes_, accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace kvec::cusim
