#ifndef KVEC_COORDINATOR_TEXT_ALLOCATION_LIMIT_H_
#define KVEC_COORDINATOR_TEXT_ALLOCATION_LIMIT_H_

#include <cstddef>
#include <cstdint>

namespace kvec::coordinator::text {

// While it exists, operator new throws std::bad_alloc on this thread for what goes beyond the
// bounds: for code of others that runs on untrusted input and cannot be given an allocator. One at
// a time per thread. Linking it replaces the program's operator new and delete; a thread without a
// limit pays one comparison.
class AllocationLimit {
 public:
  struct Options {
    int64_t max_live_bytes = 0;
    int64_t max_total_bytes = 0;  // freed ones included: bounds the work too
  };

  explicit AllocationLimit(const Options& options);
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;
  ~AllocationLimit();

  // Whether operator new has refused.
  bool exceeded() const { return exceeded_; }

  // For operator new and delete: throws std::bad_alloc when there is no room for so many bytes;
  // accounts for what the allocator gave and got back.
  void CheckRoom(size_t bytes);
  void Charge(size_t bytes) {
    live_bytes_ += static_cast<int64_t>(bytes);
    total_bytes_ += static_cast<int64_t>(bytes);
  }
  void Refund(size_t bytes) { live_bytes_ -= static_cast<int64_t>(bytes); }

 private:
  const Options options_;
  // Below zero when more is freed than was allocated since the limit began.
  int64_t live_bytes_ = 0;
  int64_t total_bytes_ = 0;
  bool exceeded_ = false;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_ALLOCATION_LIMIT_H_
