#ifndef KVEC_KERNELS_CPU_THREAD_POOL_H_
#define KVEC_KERNELS_CPU_THREAD_POOL_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace kvec::kernels::cpu {

// A fixed set of threads that run the parallel parts of a device's operations. Between two parts a
// thread spins for a few microseconds, since a decode Step has hundreds of short ones, and then
// sleeps. Owned by a CpuDevice and called from the one thread that calls the device, which works
// along as thread 0.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Runs fn(thread) once on each thread, 0 … num_threads() - 1; returns when all are done.
  void Run(absl::FunctionRef<void(int thread)> fn);

  // Runs fn(task) for every task, 0 … num_tasks - 1; threads take the next one as they come free.
  void ParallelFor(int num_tasks, absl::FunctionRef<void(int task)> fn);

 private:
  void WorkerLoop(int thread);

  std::vector<std::thread> threads_;
  const absl::FunctionRef<void(int)>* job_ = nullptr;  // published by epoch_
  alignas(64) std::atomic<uint32_t> epoch_{0};         // grows with every Run
  alignas(64) std::atomic<int> num_running_{0};
  bool stopping_ = false;  // published by epoch_
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_THREAD_POOL_H_
