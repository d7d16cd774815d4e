#include "worker/server/step_queue.h"

#include <utility>

namespace kvec::worker::server {

void StepQueue::Push(v1::CoordinatorMessage message) {
  absl::MutexLock lock(&mutex_);
  if (closed_) return;
  // Nothing that was queued before matters to an aborted group.
  if (message.has_abort_group()) messages_.clear();
  messages_.push_back(std::move(message));
}

void StepQueue::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  messages_.clear();
}

std::optional<v1::CoordinatorMessage> StepQueue::Pop() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](StepQueue* queue) ABSL_EXCLUSIVE_LOCKS_REQUIRED(queue->mutex_) {
        return queue->closed_ || !queue->messages_.empty();
      },
      this));
  if (closed_) return std::nullopt;
  v1::CoordinatorMessage message = std::move(messages_.front());
  messages_.pop_front();
  return message;
}

}  // namespace kvec::worker::server
