#include "worker/cache/page_pool.h"

#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace kvec::worker::cache {
namespace {

TEST(PagePool, GivesEveryPageOnceAndThenNone) {
  PagePool pool(5);
  std::set<int32_t> pages;
  for (int i = 0; i < 5; ++i) pages.insert(pool.Allocate());
  EXPECT_EQ(pages, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.Allocate(), -1);
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(PagePool, FreesASharedPageWithItsLastReference) {
  PagePool pool(1);
  const int32_t page = pool.Allocate();
  pool.AddReference(page);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 0);
  pool.Release(page);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(PagePoolDeathTest, ChecksThatAFreePageIsNotReleased) {
  PagePool pool(1);
  EXPECT_DEATH(pool.Release(0), "page 0 is free");
}

TEST(PagePool, CountsAgreeWithAModelUnderRandomUse) {
  std::mt19937 random(1);
  PagePool pool(37);
  std::vector<int32_t> held;  // one entry per reference
  for (int step = 0; step < 20000; ++step) {
    switch (random() % 3) {
      case 0:
        if (const int32_t page = pool.Allocate(); page >= 0) {
          ASSERT_EQ(std::count(held.begin(), held.end(), page), 0) << "given twice";
          held.push_back(page);
        } else {
          ASSERT_EQ(std::set<int32_t>(held.begin(), held.end()).size(), 37u);
        }
        break;
      case 1:
        if (!held.empty()) {
          held.push_back(held[random() % held.size()]);
          pool.AddReference(held.back());
        }
        break;
      default:
        if (!held.empty()) {
          std::swap(held[random() % held.size()], held.back());
          pool.Release(held.back());
          held.pop_back();
        }
    }
    ASSERT_EQ(pool.num_free() + std::set<int32_t>(held.begin(), held.end()).size(), 37u);
  }
}

}  // namespace
}  // namespace kvec::worker::cache
