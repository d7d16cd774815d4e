#include "tests/cusim/shared_memory.h"

#include <cstdlib>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cusim/guard.h"

namespace kvec::cusim {

void* SharedMemory::Array(const void* site, size_t bytes) {
  for (const ArrayBytes& array : arrays_) {
    if (array.site == site) return array.memory.get() + kGuardBytes;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, kPatternBytes, kGuardBytes + bytes + kGuardBytes) != 0) {
    throw std::bad_alloc();
  }
  auto* begin = static_cast<unsigned char*>(memory);
  std::memset(begin + kGuardBytes, kUnwrittenByte, bytes);
  MakeGuard(begin);
  MakeGuard(begin + kGuardBytes + bytes);
  // The first pattern is the system's, as on a real device.
  const size_t end =
      arrays_.empty() ? kPatternBytes : arrays_.back().address + arrays_.back().bytes;
  const size_t address = (end + kPatternBytes - 1) / kPatternBytes * kPatternBytes + kGuardBytes;
  arrays_.push_back({site, bytes, static_cast<uint32_t>(address), {begin, std::free}});
  return begin + kGuardBytes;
}

SharedWindow SharedMemory::WindowOf(const void* pointer) const {
  for (const ArrayBytes& array : arrays_) {
    const unsigned char* const begin = array.memory.get() + kGuardBytes;
    if (pointer >= begin && pointer <= begin + array.bytes) {
      return {array.address, static_cast<uint32_t>(array.bytes), begin};
    }
  }
  return {};
}

SharedWindow SharedMemory::WindowAt(uint32_t address) const {
  for (const ArrayBytes& array : arrays_) {
    if (address >= array.address && address - array.address <= array.bytes) {
      return {array.address, static_cast<uint32_t>(array.bytes), array.memory.get() + kGuardBytes};
    }
  }
  return {};
}

std::string SharedMemory::EndBlock() {
  std::string fault;
  for (ArrayBytes& array : arrays_) {
    unsigned char* begin = array.memory.get();
    if (!GuardIsIntact(begin) || !GuardIsIntact(begin + kGuardBytes + array.bytes)) {
      fault = absl::StrCat("write outside an array of ", array.bytes, " bytes in shared memory");
    }
    UnpoisonMemory(begin, kGuardBytes + array.bytes + kGuardBytes);
    if (kThreadSanitizer) past_blocks_.push_back(std::move(array));
  }
  arrays_.clear();
  return fault;
}

}  // namespace kvec::cusim
