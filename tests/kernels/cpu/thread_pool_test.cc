#include "kernels/cpu/thread_pool.h"

#include <atomic>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/parallel_rows.h"

namespace kvec::kernels::cpu {
namespace {

TEST(ThreadPoolTest, RunCallsEveryThreadOnce) {
  for (int num_threads : {1, 2, 5}) {
    ThreadPool pool(num_threads);
    EXPECT_EQ(pool.num_threads(), num_threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> calls(static_cast<size_t>(num_threads), 0);
      pool.Run([&](int thread) { ++calls[static_cast<size_t>(thread)]; });
      EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(num_threads), 1));
    }
  }
}

TEST(ThreadPoolTest, ParallelForCallsEveryTaskOnce) {
  for (int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    for (int num_tasks : {0, 1, 2, 3, 97, 513}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(num_tasks));
      pool.ParallelFor(num_tasks, [&](int task) { ++calls[static_cast<size_t>(task)]; });
      for (int task = 0; task < num_tasks; ++task) {
        EXPECT_EQ(calls[static_cast<size_t>(task)], 1) << "task " << task << " of " << num_tasks;
      }
    }
  }
}

TEST(ThreadPoolTest, WhatTasksWroteIsSeenByTheCaller) {
  ThreadPool pool(4);
  std::vector<int> written(64, 0);
  for (int round = 1; round <= 500; ++round) {
    pool.ParallelFor(64, [&](int task) { written[static_cast<size_t>(task)] = round; });
    EXPECT_EQ(written, std::vector<int>(64, round));
  }
}

TEST(ThreadPoolTest, ParallelRowsCoversAllRowsWithoutOverlap) {
  for (int num_threads : {1, 3}) {
    ThreadPool pool(num_threads);
    for (int num_rows : {0, 1, 4, 5, 7, 17, 97, 511}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(num_rows));
      ParallelRows(pool, num_rows, [&](int begin, int end) {
        for (int row = begin; row < end; ++row) ++calls[static_cast<size_t>(row)];
      });
      for (int row = 0; row < num_rows; ++row) {
        EXPECT_EQ(calls[static_cast<size_t>(row)], 1) << "row " << row << " of " << num_rows;
      }
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cpu
