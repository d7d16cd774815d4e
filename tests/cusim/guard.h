#ifndef KVEC_TESTS_CUSIM_GUARD_H_
#define KVEC_TESTS_CUSIM_GUARD_H_

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "tests/cusim/sanitizer.h"

namespace kvec::cusim {

// Bytes beside an array that nobody may touch: an overrun changes them, or is caught in the act by
// AddressSanitizer.
inline constexpr size_t kGuardBytes = 512;

// Of memory that was never written and of guards: not a number in every float format.
inline constexpr unsigned char kUnwrittenByte = 0xFF;

inline void MakeGuard(unsigned char* guard) {
  std::memset(guard, kUnwrittenByte, kGuardBytes);
  PoisonMemory(guard, kGuardBytes);
}

inline bool GuardIsIntact(const unsigned char* guard) {
  UnpoisonMemory(guard, kGuardBytes);
  const bool intact = std::all_of(guard, guard + kGuardBytes,
                                  [](unsigned char byte) { return byte == kUnwrittenByte; });
  PoisonMemory(guard, kGuardBytes);
  return intact;
}

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_GUARD_H_
