#include "coordinator/text/allocation_limit.h"

#include <new>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace kvec::coordinator::text {
namespace {

constexpr int64_t kMib = 1 << 20;

TEST(AllocationLimitTest, RefusesWhatGoesBeyondTheBytesHeld) {
  bool refused = false;
  AllocationLimit limit({.max_live_bytes = kMib, .max_total_bytes = 100 * kMib});
  const std::string half(kMib / 2, 'x');
  EXPECT_FALSE(limit.exceeded());
  try {
    const std::string other(kMib / 2 + 1, 'x');
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  EXPECT_TRUE(refused);
  EXPECT_TRUE(limit.exceeded());
}

TEST(AllocationLimitTest, CountsFreedBytesAsRoomButNotAsWorkUndone) {
  AllocationLimit limit({.max_live_bytes = kMib, .max_total_bytes = 10 * kMib});
  int rounds = 0;
  try {
    for (; rounds < 1'000; ++rounds) {
      const std::string text(kMib / 2, 'x');
    }
  } catch (const std::bad_alloc&) {
  }
  EXPECT_EQ(rounds, 19);  // each takes a little more than half a MiB
}

TEST(AllocationLimitTest, BindsItsThreadWhileItExists) {
  bool other_thread_refused = false;
  std::thread other;
  {
    AllocationLimit limit({.max_live_bytes = kMib, .max_total_bytes = kMib});
    other = std::thread([&] {
      try {
        const std::vector<char> bytes(2 * kMib);
      } catch (const std::bad_alloc&) {
        other_thread_refused = true;
      }
    });
    other.join();
  }
  EXPECT_FALSE(other_thread_refused);
  const std::vector<char> bytes(2 * kMib);
  EXPECT_EQ(bytes.size(), 2u * kMib);
}

TEST(AllocationLimitTest, TakesBackWhatWasAllocatedBeforeIt) {
  std::vector<std::string> strings(10, std::string(kMib, 'x'));
  AllocationLimit limit({.max_live_bytes = kMib, .max_total_bytes = 100 * kMib});
  strings.clear();
  const std::string larger_than_the_limit(4 * kMib, 'x');
  EXPECT_FALSE(limit.exceeded());
}

}  // namespace
}  // namespace kvec::coordinator::text
