#include "coordinator/server/task_pool.h"

#include <atomic>
#include <future>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::ElementsAre;

TEST(TaskPoolTest, RunsTasksInOrder) {
  std::vector<int> order;
  TaskPool pool(1, 10);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pool.Post([&order, i] { order.push_back(i); }).ok());
  }
  pool.Stop();
  EXPECT_THAT(order, ElementsAre(0, 1, 2));
}

TEST(TaskPoolTest, RefusesMoreThanMayWait) {
  std::promise<void> begun;
  std::promise<void> go_on;
  std::atomic<int> num_done = 0;
  TaskPool pool(1, 2);
  ASSERT_TRUE(pool.Post([&] {
                    begun.set_value();
                    go_on.get_future().wait();
                    ++num_done;
                  })
                  .ok());
  begun.get_future().wait();
  EXPECT_TRUE(pool.Post([&] { ++num_done; }).ok());
  EXPECT_TRUE(pool.Post([&] { ++num_done; }).ok());
  EXPECT_EQ(pool.Post([&] { ++num_done; }).code(), absl::StatusCode::kResourceExhausted);
  go_on.set_value();
  pool.Stop();
  EXPECT_EQ(num_done, 3);
}

TEST(TaskPoolTest, TwoThreadsRunTwoTasksAtOnce) {
  std::promise<void> first;
  std::promise<void> second;
  TaskPool pool(2, 10);
  ASSERT_TRUE(pool.Post([&] {
                    first.set_value();
                    second.get_future().wait();
                  })
                  .ok());
  ASSERT_TRUE(pool.Post([&] {
                    first.get_future().wait();
                    second.set_value();
                  })
                  .ok());
  pool.Stop();
}

}  // namespace
}  // namespace kvec::coordinator::server
