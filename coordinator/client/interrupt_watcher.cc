#include "coordinator/client/interrupt_watcher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <utility>

namespace kvec::coordinator::client {
namespace {

sigset_t Interrupt() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  return signals;
}

int BlockInterruptAndOpen() {
  const sigset_t signals = Interrupt();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

// Ends the process as an unblocked SIGINT would, so that shells see why it ended.
void DieOfInterrupt() {
  const sigset_t signals = Interrupt();
  std::signal(SIGINT, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  raise(SIGINT);
}

}  // namespace

InterruptWatcher::InterruptWatcher()
    : signal_fd_(BlockInterruptAndOpen()),
      stop_fd_(eventfd(0, EFD_CLOEXEC)),
      thread_(&InterruptWatcher::Watch, this) {}

InterruptWatcher::~InterruptWatcher() {
  eventfd_write(stop_fd_, 1);
  thread_.join();
  close(stop_fd_);
  close(signal_fd_);
}

std::function<void()> InterruptWatcher::SetHandler(std::function<void()> handler) {
  absl::MutexLock lock(&mutex_);
  std::swap(handler_, handler);
  return handler;
}

void InterruptWatcher::Watch() {
  pollfd fds[] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, -1) < 0) continue;  // EINTR
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    absl::MutexLock lock(&mutex_);
    if (handler_ == nullptr) {
      DieOfInterrupt();
    } else {
      handler_();
    }
  }
}

ScopedInterruptHandler::ScopedInterruptHandler(InterruptWatcher* watcher,
                                               std::function<void()> handler)
    : watcher_(watcher) {
  if (watcher_ != nullptr) former_handler_ = watcher_->SetHandler(std::move(handler));
}

ScopedInterruptHandler::~ScopedInterruptHandler() {
  if (watcher_ != nullptr) watcher_->SetHandler(std::move(former_handler_));
}

}  // namespace kvec::coordinator::client
