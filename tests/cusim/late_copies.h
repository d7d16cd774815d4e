#ifndef KVEC_TESTS_CUSIM_LATE_COPIES_H_
#define KVEC_TESTS_CUSIM_LATE_COPIES_H_

#include <cstddef>
#include <deque>

namespace kvec::cusim {

struct LateCopy {
  void* to;
  const void* from;
  size_t bytes;
};

// The copies that a thread of a block has begun and not yet waited for.
class LateCopies {
 public:
  void Add(const LateCopy& copy) { copies_.push_back({copy, num_commits_}); }
  void Commit() { ++num_commits_; }

  // Hands out the copies of all but the last `prior` commits, one at a time; false: there is none.
  bool Take(size_t prior, LateCopy& copy) {
    if (copies_.empty() || copies_.front().commit + prior >= num_commits_) return false;
    copy = copies_.front().copy;
    copies_.pop_front();
    return true;
  }

  void Clear() {
    copies_.clear();
    num_commits_ = 0;
  }

 private:
  struct Begun {
    LateCopy copy;
    size_t commit;  // the one that it belongs to
  };

  std::deque<Begun> copies_;
  size_t num_commits_ = 0;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_LATE_COPIES_H_
