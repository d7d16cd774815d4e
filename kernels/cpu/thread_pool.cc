#include "kernels/cpu/thread_pool.h"

#include <immintrin.h>

namespace kvec::kernels::cpu {
namespace {

// About 50 µs: longer than the serial stretches inside a decode Step, shorter than what a sleeping
// neighbour would notice.
constexpr int kSpins = 2000;

// Spins, then sleeps, until `value` is no longer `old`.
template <typename T>
void AwaitChange(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int thread = 1; thread < num_threads; ++thread) {
    threads_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(absl::FunctionRef<void(int)> fn) {
  if (threads_.empty()) {
    fn(0);
    return;
  }
  job_ = &fn;
  num_running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  fn(0);
  for (int running = num_running_.load(std::memory_order_acquire); running != 0;
       running = num_running_.load(std::memory_order_acquire)) {
    AwaitChange(num_running_, running);
  }
}

void ThreadPool::ParallelFor(int num_tasks, absl::FunctionRef<void(int)> fn) {
  if (num_tasks == 1) {
    fn(0);
    return;
  }
  alignas(64) std::atomic<int> next{0};
  Run([&](int) {
    for (int task = next.fetch_add(1, std::memory_order_relaxed); task < num_tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      fn(task);
    }
  });
}

void ThreadPool::WorkerLoop(int thread) {
  for (uint32_t seen = 0;;) {
    AwaitChange(epoch_, seen);
    if (epoch_.load(std::memory_order_acquire) == seen) continue;
    ++seen;
    if (stopping_) return;
    (*job_)(thread);
    if (num_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) num_running_.notify_one();
  }
}

}  // namespace kvec::kernels::cpu
