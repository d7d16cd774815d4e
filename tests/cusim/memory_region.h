#ifndef KVEC_TESTS_CUSIM_MEMORY_REGION_H_
#define KVEC_TESTS_CUSIM_MEMORY_REGION_H_

#include <cstddef>
#include <map>
#include <string>

namespace kvec::cusim {

// Address space that allocations are cut from, with guard bytes around each: a device's memory, or
// the pinned memory of the host.
class MemoryRegion {
 public:
  explicit MemoryRegion(size_t capacity_bytes);
  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  // Null when there is no room.
  void* Allocate(size_t bytes);
  // False when nothing was allocated there.
  bool Free(void* memory);

  // Whether the address is one of the region's, allocated or not.
  bool Contains(const void* memory) const;
  // Whether all the bytes lie in one allocation.
  bool Covers(const void* memory, size_t bytes) const;

  size_t capacity_bytes() const { return capacity_bytes_; }
  size_t used_bytes() const { return used_bytes_; }

  // Empty, or which allocation's guards were written to.
  std::string CheckGuards() const;

  // Whether this process may touch the memory at all.
  void SetAccessible(bool accessible);

 private:
  const size_t capacity_bytes_;
  unsigned char* const begin_;
  std::map<size_t, size_t> allocations_;  // offset behind its guard → bytes
  size_t used_bytes_ = 0;
  size_t end_of_use_ = 0;  // the largest offset that was ever given away
  bool accessible_ = true;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_MEMORY_REGION_H_
