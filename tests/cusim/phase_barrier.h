#ifndef KVEC_TESTS_CUSIM_PHASE_BARRIER_H_
#define KVEC_TESTS_CUSIM_PHASE_BARRIER_H_

#include <bit>
#include <cstdint>

namespace kvec::cusim {

// What an mbarrier's 64 bits in shared memory hold here. A phase is complete once `count` threads
// have arrived; the next one begins with that.
class PhaseBarrier {
 public:
  static PhaseBarrier Load(const uint64_t* bits) { return std::bit_cast<PhaseBarrier>(*bits); }
  static PhaseBarrier WithCount(unsigned count) {
    PhaseBarrier barrier;
    barrier.mark_ = kMark;
    barrier.count_ = static_cast<uint16_t>(count);
    barrier.num_missing_ = barrier.count_;
    return barrier;
  }
  void Store(uint64_t* bits) const { *bits = std::bit_cast<uint64_t>(*this); }

  bool is_initialized() const { return mark_ == kMark && count_ > 0; }

  // Returns whether that completes a phase.
  bool Arrive() {
    if (--num_missing_ > 0) return false;
    num_missing_ = count_;
    ++phase_;
    return true;
  }

  // mbarrier.try_wait.parity: whether the phase of this parity is complete, which is the one before
  // the current phase or that one.
  bool IsComplete(uint32_t parity) const { return (phase_ & 1) != (parity & 1); }

 private:
  static constexpr uint16_t kMark = 0x6262;

  uint16_t mark_ = 0;
  uint16_t count_ = 0;
  uint16_t num_missing_ = 0;
  uint16_t phase_ = 0;
};
static_assert(sizeof(PhaseBarrier) == sizeof(uint64_t));

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_PHASE_BARRIER_H_
