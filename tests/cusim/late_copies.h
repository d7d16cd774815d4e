#ifndef KVEC_TESTS_CUSIM_LATE_COPIES_H_
#define KVEC_TESTS_CUSIM_LATE_COPIES_H_

#include <cstddef>
#include <deque>
#include <vector>

namespace kvec::cusim {

struct LateCopy {
  void* to;
  const void* from;
  size_t bytes;
};

// The copies that a thread of a block has begun and not yet waited for, and those done that
// products of a warpgroup are not yet sure to see.
class LateCopies {
 public:
  void Add(const LateCopy& copy) { copies_.push_back({copy, num_commits_}); }
  void Commit() { ++num_commits_; }

  // Hands out the copies of all but the last `prior` commits, one at a time; false: there is none.
  bool Take(size_t prior, LateCopy& copy) {
    if (copies_.empty() || copies_.front().commit + prior >= num_commits_) return false;
    copy = copies_.front().copy;
    copies_.pop_front();
    unfenced_.push_back(copy);
    return true;
  }

  // fence.proxy.async: products see the copies that are done.
  void Fence() { unfenced_.clear(); }
  const std::vector<LateCopy>& unfenced() const { return unfenced_; }

  void Clear() {
    copies_.clear();
    unfenced_.clear();
    num_commits_ = 0;
  }

 private:
  struct Begun {
    LateCopy copy;
    size_t commit;  // the one that it belongs to
  };

  std::deque<Begun> copies_;
  std::vector<LateCopy> unfenced_;
  size_t num_commits_ = 0;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_LATE_COPIES_H_
