#include "coordinator/server/call_tracker.h"

#include "absl/time/clock.h"

namespace kvec::coordinator::server {

absl::Status CallTracker::Begin() {
  const std::lock_guard lock(mutex_);
  if (draining_) return absl::UnavailableError("the coordinator is shutting down");
  ++num_calls_;
  return absl::OkStatus();
}

void CallTracker::End() {
  const std::lock_guard lock(mutex_);
  if (--num_calls_ == 0) idle_.notify_all();
}

void CallTracker::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool CallTracker::AwaitIdle(absl::Duration timeout) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, absl::ToChronoTime(absl::Now() + timeout),
                          [this] { return num_calls_ == 0; });
}

}  // namespace kvec::coordinator::server
