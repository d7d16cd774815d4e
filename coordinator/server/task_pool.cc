#include "coordinator/server/task_pool.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/retry_after.h"

namespace kvec::coordinator::server {
namespace {

constexpr absl::Duration kPauseOfRefused = absl::Seconds(1);  // texts are tokenized fast

}  // namespace

TaskPool::TaskPool(int num_threads, size_t max_waiting) : max_waiting_(max_waiting) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Run(); });
}

absl::Status TaskPool::Post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= max_waiting_) {
      absl::Status refusal = absl::ResourceExhaustedError(
          absl::StrCat(waiting_.size(), " requests wait to be tokenized, at most ", max_waiting_));
      SetRetryAfter(kPauseOfRefused, refusal);
      return refusal;
    }
    waiting_.push_back(std::move(task));
  }
  changed_.notify_one();
  return absl::OkStatus();
}

void TaskPool::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TaskPool::Run() {
  while (true) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    task();
  }
}

}  // namespace kvec::coordinator::server
