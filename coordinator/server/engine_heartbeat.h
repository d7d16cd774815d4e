#ifndef KVEC_COORDINATOR_SERVER_ENGINE_HEARTBEAT_H_
#define KVEC_COORDINATOR_SERVER_ENGINE_HEARTBEAT_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace kvec::coordinator::server {

// Notices when the thread that composes Steps hangs: asks it for a turn again and again, from a
// thread of its own, and tells when none has come for a while. It takes none of the locks that the
// turns take, so it does not hang with them.
class EngineHeartbeat {
 public:
  struct Options {
    std::function<void()> ask;            // for a turn; returns at once
    std::function<uint64_t()> num_turns;  // so far
    // Called when turns begin to come, and when they no longer do.
    std::function<void(bool is_alive)> on_changed;
    absl::Duration interval = absl::Seconds(1);
    // Intervals without a turn until it counts as hung. Not a time: after a suspension of the
    // machine a time would be over.
    int max_missed = 10;
  };

  explicit EngineHeartbeat(Options options) : options_(std::move(options)) {}
  ~EngineHeartbeat() { Stop(); }

  void Start();
  // The last state stays.
  void Stop();

 private:
  void Run();
  // False when it is time to stop.
  bool Sleep();

  const Options options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_ENGINE_HEARTBEAT_H_
