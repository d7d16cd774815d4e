#include "kernels/cuda/buddy_allocator.h"

#include <iterator>
#include <map>
#include <random>

#include "gtest/gtest.h"

namespace kvec::kernels::cuda {
namespace {

TEST(BuddyAllocatorTest, FindsTheSmallestBlock) {
  EXPECT_EQ(BuddyAllocator::OrderFor(0), 0);
  EXPECT_EQ(BuddyAllocator::OrderFor(8), 0);
  EXPECT_EQ(BuddyAllocator::OrderFor(9), 1);
  EXPECT_EQ(BuddyAllocator::OrderFor(513), 7);
}

TEST(BuddyAllocatorTest, HasNothingBeforeItGrows) {
  BuddyAllocator allocator;
  EXPECT_EQ(allocator.capacity(), 0);
  EXPECT_EQ(allocator.Allocate(0), -1);
  allocator.Grow(2);
  EXPECT_EQ(allocator.capacity(), 32);
  EXPECT_EQ(allocator.Allocate(3), -1);
  EXPECT_EQ(allocator.Allocate(2), 0);
  EXPECT_EQ(allocator.Allocate(0), -1);
  allocator.Grow(2);
  EXPECT_EQ(allocator.capacity(), 64);
  EXPECT_EQ(allocator.Allocate(2), 32);
}

TEST(BuddyAllocatorTest, GrowthJoinsWhatWasFree) {
  BuddyAllocator allocator;
  allocator.Grow(0);
  allocator.Grow(0);
  allocator.Grow(0);
  EXPECT_EQ(allocator.Allocate(2), 0);
}

TEST(BuddyAllocatorTest, BlocksNeverOverlapAndAreWholeAgainInTheEnd) {
  BuddyAllocator allocator;
  allocator.Grow(4);
  std::mt19937 random(5);
  std::map<int64_t, int> blocks;  // begin → order
  for (int i = 0; i < 20000; ++i) {
    if (random() % 2 == 0 && !blocks.empty()) {
      const auto block = std::next(blocks.begin(), static_cast<int>(random() % blocks.size()));
      allocator.Release(block->first, block->second);
      blocks.erase(block);
      continue;
    }
    const int order = static_cast<int>(random() % 5);
    const int64_t begin = allocator.Allocate(order);
    if (begin < 0) {
      if (allocator.capacity() < 4096) allocator.Grow(4);
      continue;
    }
    const int64_t end = begin + BuddyAllocator::BlockWords(order);
    const auto [block, is_new] = blocks.emplace(begin, order);
    ASSERT_TRUE(is_new);
    const auto next = std::next(block);
    ASSERT_LE(end, next == blocks.end() ? allocator.capacity() : next->first);
    if (block != blocks.begin()) {
      const auto before = std::prev(block);
      ASSERT_LE(before->first + BuddyAllocator::BlockWords(before->second), begin);
    }
  }
  EXPECT_EQ(allocator.capacity(), 4096);
  for (const auto& [begin, order] : blocks) allocator.Release(begin, order);
  EXPECT_EQ(allocator.used(), 0);
  EXPECT_EQ(allocator.Allocate(9), 0);
}

}  // namespace
}  // namespace kvec::kernels::cuda
