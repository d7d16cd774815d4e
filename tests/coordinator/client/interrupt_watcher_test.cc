#include "coordinator/client/interrupt_watcher.h"

#include <signal.h>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::client {
namespace {

TEST(InterruptWatcherTest, CallsTheInnermostHandler) {
  InterruptWatcher watcher;
  absl::Notification outer_called;
  const ScopedInterruptHandler outer(&watcher, [&] { outer_called.Notify(); });
  {
    absl::Notification inner_called;
    const ScopedInterruptHandler inner(&watcher, [&] { inner_called.Notify(); });
    kill(getpid(), SIGINT);
    inner_called.WaitForNotification();
  }
  EXPECT_FALSE(outer_called.HasBeenNotified());
  kill(getpid(), SIGINT);
  outer_called.WaitForNotification();
}

TEST(InterruptWatcherTest, EndsTheProcessWhenNobodyHandlesTheInterrupt) {
  EXPECT_EXIT(
      {
        InterruptWatcher watcher;
        kill(getpid(), SIGINT);
        pause();
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace kvec::coordinator::client
