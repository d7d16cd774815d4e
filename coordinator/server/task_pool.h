#ifndef KVEC_COORDINATOR_SERVER_TASK_POOL_H_
#define KVEC_COORDINATOR_SERVER_TASK_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace kvec::coordinator::server {

// Threads for work that takes time with the size of a request, such as tokenizing megabytes. gRPC
// has as few as two threads, which carry every stream: they must not do it. Thread-safe.
class TaskPool {
 public:
  TaskPool(int num_threads, size_t max_waiting);
  ~TaskPool() { Stop(); }

  // RESOURCE_EXHAUSTED when too many tasks wait. Tasks begin in this order.
  absl::Status Post(std::function<void()> task);

  // Returns when all tasks are done; none may be posted afterwards.
  void Stop();

 private:
  void Run();

  const size_t max_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_TASK_POOL_H_
