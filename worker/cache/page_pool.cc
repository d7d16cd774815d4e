#include "worker/cache/page_pool.h"

#include "common/logging.h"

namespace kvec::worker::cache {

PagePool::PagePool(int32_t num_pages) : num_pages_(num_pages) {
  released_.reserve(num_pages);
  references_.reserve(num_pages);
}

int32_t PagePool::Allocate() {
  if (!released_.empty()) {
    const int32_t page = released_.back();
    released_.pop_back();
    references_[page] = 1;
    return page;
  }
  if (num_touched() == num_pages_) return -1;
  references_.push_back(1);
  return num_touched() - 1;
}

void PagePool::AddReference(int32_t page) {
  CHECK_GT(references(page), 0) << "page " << page << " is free";
  ++references_[page];
}

void PagePool::Release(int32_t page) {
  CHECK_GT(references(page), 0) << "page " << page << " is free";
  if (--references_[page] == 0) released_.push_back(page);
}

}  // namespace kvec::worker::cache
