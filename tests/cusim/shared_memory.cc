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
  constexpr size_t kAlignment = 128;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, kGuardBytes + bytes + kGuardBytes) != 0) {
    throw std::bad_alloc();
  }
  auto* begin = static_cast<unsigned char*>(memory);
  std::memset(begin + kGuardBytes, kUnwrittenByte, bytes);
  MakeGuard(begin);
  MakeGuard(begin + kGuardBytes + bytes);
  arrays_.push_back({site, bytes, {begin, std::free}});
  return begin + kGuardBytes;
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
