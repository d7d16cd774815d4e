#ifndef KVEC_TESTS_CUSIM_SHARED_MEMORY_H_
#define KVEC_TESTS_CUSIM_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvec::cusim {

// An array in shared memory, with its address as instructions give it.
struct SharedWindow {
  uint32_t address = 0;
  uint32_t bytes = 0;  // 0: there is no array
  const unsigned char* begin = nullptr;
};

// The shared memory of one block after another: arrays full of NaN between guard bytes.
class SharedMemory {
 public:
  static constexpr size_t kMaxBytes = size_t{227} << 10;  // of a block, on sm_90

  // The array of one place in the source; the same for all threads of a block.
  void* Array(const void* site, size_t bytes);

  // The array that a pointer, or an address, is in or just behind. Addresses are as far from a
  // multiple of kPatternBytes as pointers are.
  SharedWindow WindowOf(const void* pointer) const;
  SharedWindow WindowAt(uint32_t address) const;

  // Ends a block. Empty, or which array was overrun.
  std::string EndBlock();

  // Frees what blocks have left: under ThreadSanitizer blocks of a kernel must not share memory, so
  // that an access of one is never taken for a race with another's.
  void EndKernel() { past_blocks_.clear(); }

 private:
  static constexpr size_t kPatternBytes = 1024;  // of the largest swizzle

  struct ArrayBytes {
    const void* site;
    size_t bytes;
    uint32_t address;
    std::unique_ptr<unsigned char, void (*)(void*)> memory;  // guard, array, guard
  };

  std::vector<ArrayBytes> arrays_;
  std::vector<ArrayBytes> past_blocks_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_SHARED_MEMORY_H_
