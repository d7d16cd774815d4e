#ifndef KVEC_COORDINATOR_SCHEDULER_LOSS_RECORD_H_
#define KVEC_COORDINATOR_SCHEDULER_LOSS_RECORD_H_

#include <cstdint>

namespace kvec::coordinator::scheduler {

// Whether a request may be what brings its workers down: counts the groups that were lost with it,
// one after the other, before it had delivered another token. After some it is a suspect. Suspects
// run one at a time, so that those who were only beside it go on, and one with which groups are
// still lost is ended instead of replayed for ever.
class LossRecord {
 public:
  static constexpr uint32_t kSuspiciousLosses = 2;

  // num_delivered: tokens of the request's answers so far.
  void OnLost(uint64_t num_delivered) {
    if (num_delivered > num_delivered_) num_losses_ = 0;
    num_delivered_ = num_delivered;
    ++num_losses_;
  }

  bool IsSuspect(uint64_t num_delivered) const {
    return num_losses_ >= kSuspiciousLosses && num_delivered == num_delivered_;
  }
  uint32_t num_losses() const { return num_losses_; }

 private:
  uint64_t num_delivered_ = 0;  // at the last loss
  uint32_t num_losses_ = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_LOSS_RECORD_H_
