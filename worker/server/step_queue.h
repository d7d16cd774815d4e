#ifndef KVEC_WORKER_SERVER_STEP_QUEUE_H_
#define KVEC_WORKER_SERVER_STEP_QUEUE_H_

#include <deque>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::worker::server {

// What the coordinator sent and the engine has not yet carried out: filled by the thread that reads
// the stream, drained by the engine's.
class StepQueue {
 public:
  void Push(v1::CoordinatorMessage message);

  // Drops what is queued and refuses more: the stream has ended.
  void Close();

  // Waits for a message; nothing when the queue is closed.
  std::optional<v1::CoordinatorMessage> Pop();

 private:
  absl::Mutex mutex_;
  std::deque<v1::CoordinatorMessage> messages_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_STEP_QUEUE_H_
