// Notices a thread that takes no more turns, and one that takes them again.

#include "coordinator/server/engine_heartbeat.h"

#include <atomic>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A thread that turns when it is asked to, unless it hangs, and what was told of it.
class FakePump {
 public:
  EngineHeartbeat::Options Options(int max_missed) {
    return {.ask =
                [this] {
                  num_turns_ += hangs_ ? 0 : 1;
                  ++num_asked_;
                },
            .num_turns = [this] { return num_turns_.load(); },
            .on_changed =
                [this](bool is_alive) {
                  const absl::MutexLock lock(&mutex_);
                  told_.push_back(is_alive);
                },
            .interval = absl::Milliseconds(1),
            .max_missed = max_missed};
  }

  void set_hangs(bool hangs) { hangs_ = hangs; }

  std::vector<bool> Await(size_t count) {
    const absl::MutexLock lock(&mutex_);
    const auto is_told = [&] { return told_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&is_told), absl::Seconds(20));
    return told_;
  }

  void AwaitAsked(int times) {
    const int until = num_asked_ + times;
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (num_asked_ < until && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  }

 private:
  std::atomic<uint64_t> num_turns_ = 0;
  std::atomic<int> num_asked_ = 0;
  std::atomic<bool> hangs_ = false;
  absl::Mutex mutex_;
  std::vector<bool> told_;
};

TEST(EngineHeartbeatTest, TellsWhenTurnsBeginAndEndAndBeginAgain) {
  FakePump pump;
  EngineHeartbeat heartbeat(pump.Options(3));
  heartbeat.Start();
  EXPECT_THAT(pump.Await(1), ElementsAre(true));
  pump.set_hangs(true);
  EXPECT_THAT(pump.Await(2), ElementsAre(true, false));
  pump.set_hangs(false);
  EXPECT_THAT(pump.Await(3), ElementsAre(true, false, true));
}

TEST(EngineHeartbeatTest, SaysNothingOfAThreadThatNeverTurned) {
  FakePump pump;
  pump.set_hangs(true);
  EngineHeartbeat heartbeat(pump.Options(2));
  heartbeat.Start();
  pump.AwaitAsked(10);
  heartbeat.Stop();
  EXPECT_THAT(pump.Await(0), IsEmpty());
}

TEST(EngineHeartbeatTest, BearsAPauseThatIsShorterThanTheLimit) {
  FakePump pump;
  EngineHeartbeat heartbeat(pump.Options(1000000));
  heartbeat.Start();
  EXPECT_THAT(pump.Await(1), ElementsAre(true));
  pump.set_hangs(true);
  pump.AwaitAsked(10);
  pump.set_hangs(false);
  pump.AwaitAsked(10);
  heartbeat.Stop();
  EXPECT_THAT(pump.Await(0), ElementsAre(true));
}

}  // namespace
}  // namespace kvec::coordinator::server
