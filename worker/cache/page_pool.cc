#include "worker/cache/page_pool.h"

#include "common/logging.h"

namespace kvec::worker::cache {

PagePool::PagePool(int32_t num_pages) : references_(num_pages, 0) {
  free_.reserve(num_pages);
  for (int32_t page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

int32_t PagePool::Allocate() {
  if (free_.empty()) return -1;
  const int32_t page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void PagePool::AddReference(int32_t page) {
  CHECK_GT(references_[page], 0) << "page " << page << " is free";
  ++references_[page];
}

void PagePool::Release(int32_t page) {
  CHECK_GT(references_[page], 0) << "page " << page << " is free";
  if (--references_[page] == 0) free_.push_back(page);
}

}  // namespace kvec::worker::cache
