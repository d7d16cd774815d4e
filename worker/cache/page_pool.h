#ifndef KVEC_WORKER_CACHE_PAGE_POOL_H_
#define KVEC_WORKER_CACHE_PAGE_POOL_H_

#include <cstdint>
#include <vector>

namespace kvec::worker::cache {

// Which pages of a worker's arena are free, and how many page tables share each of the others.
// Pages are named by their index in the arena. Owned by the engine and used from its thread only.
class PagePool {
 public:
  explicit PagePool(int32_t num_pages);

  // A free page, with one reference, or -1 when there is none. The most recently released page
  // comes first: it is the likeliest to be in a processor's cache.
  int32_t Allocate();

  // `page` must be allocated.
  void AddReference(int32_t page);
  // Frees the page with its last reference.
  void Release(int32_t page);

  int32_t num_pages() const { return num_pages_; }
  int32_t num_free() const {
    return num_pages_ - num_touched() + static_cast<int32_t>(released_.size());
  }
  int32_t references(int32_t page) const { return page < num_touched() ? references_[page] : 0; }

 private:
  int32_t num_touched() const { return static_cast<int32_t>(references_.size()); }

  const int32_t num_pages_;
  // Both have room for all pages from the start, but a large arena that is hardly used costs no
  // resident memory here either: entries come with a page's first use.
  std::vector<int32_t> released_;    // free pages that were used before
  std::vector<int32_t> references_;  // [pages ever used]; 0: free
};

}  // namespace kvec::worker::cache

#endif  // KVEC_WORKER_CACHE_PAGE_POOL_H_
