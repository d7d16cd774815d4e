// The scheduler as the server uses it: clients' threads submit and cancel, a pump sends Steps, and
// one thread per worker brings its results. Made for ThreadSanitizer.

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/scheduler/scheduler.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/fake_worker.h"
#include "tests/coordinator/scheduler/recording_sink.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

constexpr int kNumClients = 3;
constexpr int kRequestsPerClient = 60;
constexpr uint32_t kNumWorkers = 2;

// Wakes whoever waits for something to have changed since it looked last.
class Changes {
 public:
  uint64_t count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  void Notify() {
    const std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  void WaitBeyond(uint64_t seen) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return count_ > seen; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t count_ = 0;
};

// Tells when its request is done.
class NotifyingSink : public RecordingSink {
 public:
  NotifyingSink(Changes& changes, std::mutex& mutex, int& num_done)
      : changes_(changes), mutex_(mutex), num_done_(num_done) {}
  void OnDone(const absl::Status& status, const v1::Usage& usage) override {
    RecordingSink::OnDone(status, usage);
    {
      const std::lock_guard lock(mutex_);
      ++num_done_;
    }
    changes_.Notify();
  }

 private:
  Changes& changes_;
  std::mutex& mutex_;
  int& num_done_;
};

class ThreadedGroup {
 public:
  explicit ThreadedGroup(Scheduler& scheduler) : scheduler_(scheduler), queues_(kNumWorkers) {
    const WorkerCapacity capacity = OneWorker(60)[0];
    scheduler.OnGroupReady(1, std::vector<WorkerCapacity>(kNumWorkers, capacity), absl::Now());
    for (uint32_t w = 0; w < kNumWorkers; ++w) {
      threads_.emplace_back([this, w, capacity] { Work(w, FakeWorker(capacity, w == 1)); });
    }
    threads_.emplace_back([this] { Pump(); });
  }

  ~ThreadedGroup() {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    changes_.Notify();
    for (std::thread& thread : threads_) thread.join();
  }

  Changes& changes() { return changes_; }
  std::mutex& mutex() { return mutex_; }
  int& num_done() { return num_done_; }
  bool IsDone(int num_requests) {
    const std::lock_guard lock(mutex_);
    return num_done_ == num_requests;
  }

 private:
  bool IsStopping() {
    const std::lock_guard lock(mutex_);
    return is_stopping_;
  }

  void Pump() {
    while (!IsStopping()) {
      const uint64_t seen = changes_.count();
      const std::optional<v1::Step> step = scheduler_.NextStep(absl::Now());
      if (!step.has_value()) {
        changes_.WaitBeyond(seen);
        continue;
      }
      {
        const std::lock_guard lock(mutex_);
        for (auto& queue : queues_) queue.push_back(*step);
      }
      changes_.Notify();
    }
  }

  void Work(uint32_t w, FakeWorker worker) {
    while (!IsStopping()) {
      const uint64_t seen = changes_.count();
      std::optional<v1::Step> step;
      {
        const std::lock_guard lock(mutex_);
        if (!queues_[w].empty()) {
          step = std::move(queues_[w].front());
          queues_[w].pop_front();
        }
      }
      if (!step.has_value()) {
        changes_.WaitBeyond(seen);
        continue;
      }
      const absl::StatusOr<v1::StepResult> result = worker.Execute(*step);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok()) return;
      const absl::Status read = scheduler_.OnStepResult(w, *result, absl::Now());
      EXPECT_TRUE(read.ok()) << read;
      changes_.Notify();
    }
  }

  Scheduler& scheduler_;
  Changes changes_;
  std::mutex mutex_;
  std::vector<std::deque<v1::Step>> queues_;  // guarded by mutex_
  bool is_stopping_ = false;                  // guarded by mutex_
  int num_done_ = 0;                          // guarded by mutex_
  std::vector<std::thread> threads_;
};

TEST(SchedulerThreadTest, ServesManyClientsWhileStepsAndResultsPass) {
  SchedulerOptions options;
  options.step_tokens = 64;
  options.max_running_sequences = 16;
  const std::unique_ptr<Scheduler> scheduler = CreateScheduler(options);
  std::vector<std::vector<Request>> requests(kNumClients);
  std::vector<std::vector<std::shared_ptr<NotifyingSink>>> sinks(kNumClients);
  {
    ThreadedGroup group(*scheduler);
    std::vector<std::thread> clients;
    for (int client = 0; client < kNumClients; ++client) {
      clients.emplace_back([&, client] {
        for (int i = 0; i < kRequestsPerClient; ++i) {
          Request request = MakeRequest(absl::StrCat(client, "-", i), 5 + i, 25);
          request.sampling.set_seed(static_cast<uint64_t>(1000 * client + i));
          request.num_choices = i % 7 == 0 ? 3 : 1;
          requests[client].push_back(request);
          auto sink =
              std::make_shared<NotifyingSink>(group.changes(), group.mutex(), group.num_done());
          sinks[client].push_back(sink);
          request.sink = sink;
          EXPECT_TRUE(scheduler->Submit(std::move(request), absl::Now()).ok());
          group.changes().Notify();
          if (i % 5 == 4) {
            scheduler->Cancel(absl::StrCat(client, "-", i - 2), absl::CancelledError("test"),
                              absl::Now());
            scheduler->ExpireDeadlines(absl::Now());
            group.changes().Notify();
          }
          EXPECT_LE(scheduler->counts().num_running, 16);
          EXPECT_EQ(scheduler->free_pages().size(), kNumWorkers);
          EXPECT_EQ(scheduler->NextDeadline(), absl::InfiniteFuture());
        }
      });
    }
    for (std::thread& client : clients) client.join();
    while (true) {
      const uint64_t seen = group.changes().count();
      if (group.IsDone(kNumClients * kRequestsPerClient)) break;
      group.changes().WaitBeyond(seen);
    }
  }
  for (int client = 0; client < kNumClients; ++client) {
    for (int i = 0; i < kRequestsPerClient; ++i) {
      RecordingSink& sink = *sinks[client][i];
      EXPECT_EQ(sink.num_breaches(), 0);
      if (!sink.done()->ok()) {
        EXPECT_EQ(sink.done()->code(), absl::StatusCode::kCancelled);
        continue;
      }
      for (uint32_t choice = 0; choice < requests[client][i].num_choices; ++choice) {
        EXPECT_EQ(sink.choice(choice).tokens, RunAlone(requests[client][i], choice, {}, 0).tokens);
      }
    }
  }
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
