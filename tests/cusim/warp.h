#ifndef KVEC_TESTS_CUSIM_WARP_H_
#define KVEC_TESTS_CUSIM_WARP_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/cusim/call_site.h"
#include "tests/cusim/sanitizer.h"

namespace kvec::cusim {

inline constexpr int kWarpLanes = 32;
inline constexpr int kWarpgroupThreads = 4 * kWarpLanes;

// What kind of collective a lane calls: all lanes of its mask must call the same.
enum class WarpOp : uint8_t { kSync, kShuffle, kBallot };

// A collective that some lanes of a warp have reached: each hands in a value, and once all of the
// mask have come each may read the others'.
struct WarpExchange {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  int num_readers = 0;  // lanes that may still read
  WarpOp op = WarpOp::kSync;
  CallSite at;
  std::array<uint64_t, kWarpLanes> values{};
};

struct Warp {
  uint32_t lanes = 0;  // that exist
  uint32_t ready = 0;  // that could go on
  uint32_t exited = 0;
  // The open exchange whose mask's lowest lane this is.
  std::array<WarpExchange*, kWarpLanes> open{};
};

// Keeps exchanges for reuse.
class WarpExchangePool {
 public:
  WarpExchange* Take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<WarpExchange>());
      free_.push_back(all_.back().get());
    }
    WarpExchange* exchange = free_.back();
    free_.pop_back();
    return exchange;
  }
  // Not under ThreadSanitizer before the kernel's end: an exchange is a tag, and through a used one
  // lanes would be ordered that have nothing to do with each other.
  void Return(WarpExchange* exchange) {
    if (!kThreadSanitizer) free_.push_back(exchange);
  }
  void ReturnAll() {
    free_.clear();
    for (const auto& exchange : all_) free_.push_back(exchange.get());
  }

 private:
  std::vector<std::unique_ptr<WarpExchange>> all_;
  std::vector<WarpExchange*> free_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_WARP_H_
