#ifndef KVEC_KERNELS_CUDA_BUDDY_ALLOCATOR_H_
#define KVEC_KERNELS_CUDA_BUDDY_ALLOCATOR_H_

#include <cstdint>
#include <set>
#include <vector>

namespace kvec::kernels::cuda {

// Divides words 0 … capacity() - 1 into blocks of kMinWords · 2^order words, where neighbours that
// are free become one again: tables that grow and end in any order leave no gaps behind that nobody
// can use. Used by one thread.
class BuddyAllocator {
 public:
  static constexpr int kMinWords = 8;

  // The first word of a free block, -1 when there is none.
  int64_t Allocate(int order);
  // `begin` was returned by Allocate(order).
  void Release(int64_t begin, int order);

  // Doubles the capacity; from none to kMinWords · 2^first_order.
  void Grow(int first_order);

  int64_t capacity() const { return free_.empty() ? 0 : BlockWords(max_order()); }
  int64_t used() const { return used_; }

  static int64_t BlockWords(int order) { return int64_t{kMinWords} << order; }
  // Of the smallest block that holds so many words.
  static int OrderFor(int64_t words);

 private:
  int max_order() const { return static_cast<int>(free_.size()) - 1; }

  std::vector<std::set<int64_t>> free_;  // by order: where free blocks begin
  int64_t used_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_BUDDY_ALLOCATOR_H_
