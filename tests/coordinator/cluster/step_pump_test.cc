#include "coordinator/cluster/step_pump.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_worker.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::SizeIs;

constexpr std::chrono::seconds kPatience(20);

// Waits for a request's end.
class AwaitableSink : public scheduler::RequestSink {
 public:
  void OnPromptLogProbs(absl::Span<const v1::TokenLogProbs>) override {}
  scheduler::Verdict OnToken(uint32_t, int32_t token, const v1::TokenLogProbs*) override {
    const std::lock_guard lock(mutex_);
    tokens_.push_back(token);
    return scheduler::Verdict::kContinue;
  }
  void OnChoiceFinished(uint32_t, v1::FinishReason) override {}
  void OnDone(const absl::Status& status, const v1::Usage&) override {
    const std::lock_guard lock(mutex_);
    status_ = status;
    changed_.notify_all();
  }

  // Nothing when it did not end in time.
  std::optional<absl::Status> AwaitDone() {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, std::chrono::system_clock::now() + kPatience,
                        [this] { return status_.has_value(); });
    return status_;
  }
  std::vector<int32_t> tokens() {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::optional<absl::Status> status_;
};

// A worker in a thread of this process: what it is sent waits in a queue.
class ThreadWorker : public WorkerLink {
 public:
  ThreadWorker(StepPump& pump, std::string worker_id)
      : pump_(pump), worker_id_(std::move(worker_id)) {}

  // `self` is this.
  void Start(const std::shared_ptr<ThreadWorker>& self) {
    id_ = pump_.Attach(self);
    v1::WorkerMessage message;
    message.mutable_register_()->set_worker_id(worker_id_);
    pump_.Deliver(id_, message);
    thread_ = std::thread([this] { Run(); });
  }

  // As a process that dies: takes no more messages.
  void Die() {
    Close(absl::OkStatus());
    pump_.Detach(id_);
  }
  void Join() { thread_.join(); }

  void Send(v1::CoordinatorMessage message) override {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(message));
    changed_.notify_all();
  }
  void Close(absl::Status status) override {
    const std::lock_guard lock(mutex_);
    if (!closed_.has_value()) closed_ = std::move(status);
    changed_.notify_all();
  }

  std::optional<absl::Status> closed() {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  void Run() {
    while (true) {
      v1::CoordinatorMessage message;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_.has_value() || !queue_.empty(); });
        if (closed_.has_value()) return;
        message = std::move(queue_.front());
        queue_.pop_front();
      }
      Handle(message);
    }
  }

  void Handle(const v1::CoordinatorMessage& message) {
    v1::WorkerMessage answer;
    if (message.has_form_group()) {
      scheduler::WorkerCapacity capacity;
      capacity.total_pages = 1000;
      capacity.page_bytes = 64;
      capacity.num_kv_heads = 1;
      capacity.sliding_windows = {0};
      executor_ = std::make_unique<scheduler::FakeWorker>(capacity, /*is_sampler=*/true);
      v1::GroupReady& ready = *answer.mutable_group_ready();
      ready.set_group_epoch(message.form_group().group_epoch());
      ready.set_total_pages(capacity.total_pages);
      ready.set_page_bytes(capacity.page_bytes);
      ready.set_num_kv_heads(capacity.num_kv_heads);
      ready.set_max_step_tokens(4096);
    } else if (message.has_step()) {
      absl::StatusOr<v1::StepResult> result = executor_->Execute(message.step());
      CHECK(result.ok()) << result.status();
      if (message.step().trace()) {
        v1::TraceSpan& span = *result->add_spans();
        span.set_name("step");
        span.set_step_id(message.step().step_id());
      }
      *answer.mutable_step_result() = *std::move(result);
    } else {
      answer.mutable_group_aborted();
    }
    pump_.Deliver(id_, std::move(answer));
  }

  StepPump& pump_;
  const std::string worker_id_;
  uint64_t id_ = 0;
  std::unique_ptr<scheduler::FakeWorker> executor_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::CoordinatorMessage> queue_;
  std::optional<absl::Status> closed_;
  std::thread thread_;
};

scheduler::Request SmallRequest(const std::string& id, uint32_t max_tokens) {
  scheduler::Request request;
  request.id = id;
  request.prompt = {1, 2, 3};
  request.max_tokens = max_tokens;
  request.sampling.set_logprobs(-1);
  request.sampling.set_prompt_logprobs(-1);
  return request;
}

class StepPumpTest : public testing::Test {
 protected:
  StepPumpTest()
      : scheduler_(scheduler::CreateScheduler({})), pump_(GroupOptions(), {scheduler_.get()}) {
    pump_.Start();
  }

  ReplicaSet::Options GroupOptions() {
    ReplicaSet::Options options;
    options.membership.heartbeat_timeout = absl::Hours(1);
    options.group.sliding_windows = {0};
    options.group.model_bytes = {.layers = {1}, .cache = {0}};
    options.group.step_tokens = 512;
    options.group.on_step_result = [this](const v1::StepResult& result) {
      ++num_results_;
      if (!result.spans().empty()) ++num_sampled_;
    };
    return options;
  }

  ~StepPumpTest() override {
    pump_.Stop();
    for (const auto& worker : workers_) worker->Join();
  }

  ThreadWorker& AttachWorker(const std::string& worker_id) {
    workers_.push_back(std::make_shared<ThreadWorker>(pump_, worker_id));
    workers_.back()->Start(workers_.back());
    return *workers_.back();
  }

  std::shared_ptr<AwaitableSink> Submit(const std::string& id, uint32_t max_tokens,
                                        absl::Time deadline = absl::InfiniteFuture()) {
    auto sink = std::make_shared<AwaitableSink>();
    scheduler::Request request = SmallRequest(id, max_tokens);
    request.deadline = deadline;
    request.sink = sink;
    EXPECT_TRUE(scheduler_->Submit(std::move(request), absl::Now()).ok());
    pump_.Wake();
    return sink;
  }

  std::atomic<int> num_results_ = 0;
  std::atomic<int> num_sampled_ = 0;
  const std::unique_ptr<scheduler::Scheduler> scheduler_;
  StepPump pump_;
  std::vector<std::shared_ptr<ThreadWorker>> workers_;
};

TEST_F(StepPumpTest, RunsTheRequestsOfManyThreadsWhileWorkersComeAndGo) {
  ThreadWorker* const first = &AttachWorker("first");
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([this, client] {
      for (uint32_t i = 0; i < 8; ++i) {
        const std::string id = absl::StrCat(client, "-", i);
        const std::shared_ptr<AwaitableSink> sink = Submit(id, 5 + i);
        if (i % 4 == 3) {
          scheduler_->Cancel(id, absl::CancelledError("the client left"), absl::Now());
          pump_.Wake();
          EXPECT_TRUE(sink->AwaitDone().has_value());
          continue;
        }
        const std::optional<absl::Status> status = sink->AwaitDone();
        ASSERT_TRUE(status.has_value());
        EXPECT_TRUE(status->ok()) << *status;
        EXPECT_THAT(sink->tokens(), SizeIs(5 + i));
        pump_.WorkerStatuses();
      }
    });
  }
  first->Die();
  AttachWorker("second");
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(pump_.group_ready());
}

TEST(ReplicasStepPumpTest, OnePumpServesAllReplicas) {
  const std::unique_ptr<scheduler::Scheduler> schedulers[] = {scheduler::CreateScheduler({}),
                                                              scheduler::CreateScheduler({})};
  ReplicaSet::Options options;
  options.membership.heartbeat_timeout = absl::Hours(1);
  options.shape->num_replicas = 2;
  options.group.sliding_windows = {0};
  options.group.model_bytes = {.layers = {1}, .cache = {0}};
  options.group.step_tokens = 512;
  StepPump pump(std::move(options), {schedulers[0].get(), schedulers[1].get()});
  pump.Start();
  std::vector<std::shared_ptr<ThreadWorker>> workers;
  for (const char* name : {"a", "b"}) {
    workers.push_back(std::make_shared<ThreadWorker>(pump, name));
    workers.back()->Start(workers.back());
  }
  std::vector<std::shared_ptr<AwaitableSink>> sinks;
  for (int i = 0; i < 40; ++i) {
    scheduler::Request request = SmallRequest(absl::StrCat(i), 20);
    sinks.push_back(std::make_shared<AwaitableSink>());
    request.sink = sinks.back();
    EXPECT_TRUE(schedulers[i % 2]->Submit(std::move(request), absl::Now()).ok());
    pump.Wake();
  }
  for (const auto& sink : sinks) {
    const std::optional<absl::Status> done = sink->AwaitDone();
    ASSERT_TRUE(done.has_value());
    EXPECT_TRUE(done->ok()) << *done;
    EXPECT_EQ(sink->tokens(), sinks[0]->tokens());
  }
  EXPECT_EQ(pump.num_replicas(), 2u);
  pump.Stop();
  for (const auto& worker : workers) worker->Join();
}

TEST_F(StepPumpTest, WakesForADeadlineWithoutAnyOtherEvent) {
  const auto sink = Submit("late", 5, absl::Now() + absl::Milliseconds(20));
  const std::optional<absl::Status> status = sink->AwaitDone();
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(StepPumpTest, TracesTheStepsOfRunningRequests) {
  AttachWorker("first");
  v1::TraceRequest trace_request;
  trace_request.set_num_steps(4);
  std::promise<v1::TraceResponse> promise;
  ASSERT_TRUE(pump_
                  .StartTrace(trace_request,
                              [&](v1::TraceResponse trace) { promise.set_value(std::move(trace)); })
                  .ok());
  const std::shared_ptr<AwaitableSink> sink = Submit("traced", 20);
  std::future<v1::TraceResponse> future = promise.get_future();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  const v1::TraceResponse trace = future.get();
  EXPECT_EQ(trace.num_steps(), 4u);
  ASSERT_EQ(trace.rows_size(), 2);
  EXPECT_EQ(trace.rows(1).name(), "first");
  EXPECT_EQ(trace.rows(1).spans_size(), 4);
  EXPECT_TRUE(sink->AwaitDone().has_value());
}

TEST_F(StepPumpTest, SamplesTheSpansOfOneStepASecond) {
  const absl::Time begin = absl::Now();
  AttachWorker("first");
  const auto sink = Submit("sampled", 200);
  ASSERT_TRUE(sink->AwaitDone().has_value());
  EXPECT_GE(num_results_, 199);  // the last token is delivered before its Step's result is told
  EXPECT_GE(num_sampled_, 1);
  EXPECT_LE(num_sampled_, 1 + absl::ToDoubleSeconds(absl::Now() - begin));
}

TEST_F(StepPumpTest, ATraceEndsAtItsDeadlineAndWhenThePumpStops) {
  v1::TraceRequest request;
  request.set_num_steps(4);
  request.set_max_seconds(0.02);
  std::promise<v1::TraceResponse> first;
  ASSERT_TRUE(
      pump_.StartTrace(request, [&](v1::TraceResponse trace) { first.set_value(trace); }).ok());
  EXPECT_EQ(first.get_future().get().num_steps(), 0u);
  request.set_max_seconds(60);
  std::promise<v1::TraceResponse> second;
  const absl::StatusOr<uint64_t> id =
      pump_.StartTrace(request, [&](v1::TraceResponse trace) { second.set_value(trace); });
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(pump_.StartTrace(request, {}).status().code(), absl::StatusCode::kAborted);
  pump_.Stop();
  EXPECT_EQ(second.get_future().get().num_steps(), 0u);
}

TEST_F(StepPumpTest, StopClosesTheStreamsAndThoseThatComeLater) {
  ThreadWorker& early = AttachWorker("early");
  pump_.Stop();
  EXPECT_EQ(early.closed()->code(), absl::StatusCode::kUnavailable);
  ThreadWorker& late = AttachWorker("late");
  EXPECT_EQ(late.closed()->code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvec::coordinator::cluster
