#include "kernels/cuda/buddy_allocator.h"

#include <algorithm>
#include <cstddef>

namespace kvec::kernels::cuda {

int BuddyAllocator::OrderFor(int64_t words) {
  int order = 0;
  while (BlockWords(order) < words) ++order;
  return order;
}

int64_t BuddyAllocator::Allocate(int order) {
  int from = order;
  while (from <= max_order() && free_[static_cast<size_t>(from)].empty()) ++from;
  if (from > max_order()) return -1;
  const int64_t begin = *free_[static_cast<size_t>(from)].begin();
  free_[static_cast<size_t>(from)].erase(begin);
  while (from > order) {  // the second half stays free
    --from;
    free_[static_cast<size_t>(from)].insert(begin + BlockWords(from));
  }
  used_ += BlockWords(order);
  return begin;
}

void BuddyAllocator::Release(int64_t begin, int order) {
  used_ -= BlockWords(order);
  for (; order < max_order(); ++order) {
    const int64_t buddy = begin ^ BlockWords(order);
    if (free_[static_cast<size_t>(order)].erase(buddy) == 0) break;
    begin = std::min(begin, buddy);
  }
  free_[static_cast<size_t>(order)].insert(begin);
}

void BuddyAllocator::Grow(int first_order) {
  const int64_t begin = capacity();
  const int order = free_.empty() ? first_order : max_order();
  free_.resize(free_.empty() ? static_cast<size_t>(order) + 1 : free_.size() + 1);
  used_ += BlockWords(order);
  Release(begin, order);
}

}  // namespace kvec::kernels::cuda
