#ifndef KVEC_COORDINATOR_SERVER_CALL_TRACKER_H_
#define KVEC_COORDINATOR_SERVER_CALL_TRACKER_H_

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvec::coordinator::server {

// Counts the Generate calls under way, so that a stopping server can wait for them. Thread-safe.
class CallTracker {
 public:
  // UNAVAILABLE once Drain was called.
  absl::Status Begin();
  // The client has got, or lost, the call's last message.
  void End();

  // Refuses calls from now on.
  void Drain();
  // Returns whether all calls ended within `timeout`.
  bool AwaitIdle(absl::Duration timeout);

 private:
  std::mutex mutex_;
  std::condition_variable idle_;
  int num_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_CALL_TRACKER_H_
