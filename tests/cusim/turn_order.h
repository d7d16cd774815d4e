#ifndef KVEC_TESTS_CUSIM_TURN_ORDER_H_
#define KVEC_TESTS_CUSIM_TURN_ORDER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "tests/cusim/cusim.h"

namespace kvec::cusim {

// Decides whose turn it is, in the order of Options.
class TurnOrder {
 public:
  explicit TurnOrder(const Options& options) : order_(options.order), random_(options.seed) {}

  // 0 … count - 1, in the order in which they take turns.
  std::vector<int> Permutation(size_t count) {
    std::vector<int> order(count);
    std::iota(order.begin(), order.end(), 0);
    if (order_ == Order::kReverse) std::reverse(order.begin(), order.end());
    if (order_ == Order::kRandom) std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  // One of the bits that are set in `lanes`.
  int PickLane(uint32_t lanes) {
    if (order_ == Order::kReverse) return 31 - __builtin_clz(lanes);
    if (order_ == Order::kRandom) {
      for (uint64_t skip = random_() % __builtin_popcount(lanes); skip > 0; --skip) {
        lanes &= lanes - 1;
      }
    }
    return __builtin_ctz(lanes);
  }

  // Now and then, if random, brings another one to the front.
  void Disturb(std::vector<int>& order) {
    constexpr uint64_t kTurns = 64;
    if (order_ != Order::kRandom || random_() % kTurns != 0) return;
    std::swap(order.front(), order[random_() % order.size()]);
  }

  Order order() const { return order_; }

 private:
  const Order order_;
  std::mt19937_64 random_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_TURN_ORDER_H_
