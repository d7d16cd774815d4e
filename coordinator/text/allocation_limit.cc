#include "coordinator/text/allocation_limit.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace kvec::coordinator::text {
namespace {

constinit thread_local AllocationLimit* current_limit = nullptr;

void* Allocate(size_t size) {
  if (current_limit != nullptr) current_limit->CheckRoom(size);
  void* const memory = std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  if (current_limit != nullptr) current_limit->Charge(malloc_usable_size(memory));
  return memory;
}

void* AllocateOrNull(size_t size) noexcept {
  try {
    return Allocate(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void Release(void* memory) noexcept {
  if (memory == nullptr) return;
  if (current_limit != nullptr) current_limit->Refund(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

AllocationLimit::AllocationLimit(const Options& options) : options_(options) {
  current_limit = this;
}

AllocationLimit::~AllocationLimit() { current_limit = nullptr; }

void AllocationLimit::CheckRoom(size_t bytes) {
  const int64_t room =
      std::min(options_.max_live_bytes - live_bytes_, options_.max_total_bytes - total_bytes_);
  if (room >= 0 && bytes <= static_cast<size_t>(room)) return;
  exceeded_ = true;
  throw std::bad_alloc();
}

}  // namespace kvec::coordinator::text

using kvec::coordinator::text::Allocate;
using kvec::coordinator::text::AllocateOrNull;
using kvec::coordinator::text::Release;

// All forms but those with an alignment: a sanitizer's own must not meet ours on one address.
void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return AllocateOrNull(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return AllocateOrNull(size); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, size_t) noexcept { Release(memory); }
void operator delete[](void* memory, size_t) noexcept { Release(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { Release(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { Release(memory); }
