#ifndef KVEC_COORDINATOR_CLIENT_INTERRUPT_WATCHER_H_
#define KVEC_COORDINATOR_CLIENT_INTERRUPT_WATCHER_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kvec::coordinator::client {

// Turns Ctrl-C (SIGINT) into a function call on a thread of its own, where cancelling an RPC is
// allowed; a signal handler may not. While no handler is set, Ctrl-C ends the process as usual.
// Blocks SIGINT for the calling thread: construct it before any other thread starts.
class InterruptWatcher {
 public:
  InterruptWatcher();
  ~InterruptWatcher();
  InterruptWatcher(const InterruptWatcher&) = delete;
  InterruptWatcher& operator=(const InterruptWatcher&) = delete;

  // Returns the former handler, after a running call of it has ended. nullptr: the default action.
  std::function<void()> SetHandler(std::function<void()> handler);

 private:
  void Watch();

  const int signal_fd_;
  const int stop_fd_;
  absl::Mutex mutex_;
  std::function<void()> handler_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Sets a handler for as long as it lives, then the former one again. `watcher` may be null: then it
// does nothing.
class ScopedInterruptHandler {
 public:
  ScopedInterruptHandler(InterruptWatcher* watcher, std::function<void()> handler);
  ~ScopedInterruptHandler();
  ScopedInterruptHandler(const ScopedInterruptHandler&) = delete;
  ScopedInterruptHandler& operator=(const ScopedInterruptHandler&) = delete;

 private:
  InterruptWatcher* const watcher_;
  std::function<void()> former_handler_;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_INTERRUPT_WATCHER_H_
