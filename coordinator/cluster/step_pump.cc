#include "coordinator/cluster/step_pump.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace kvec::coordinator::cluster {
namespace {

// One Step in so long reports its spans, for metrics.
constexpr absl::Duration kSampleInterval = absl::Seconds(1);

// Keeps `ready` up to date before anyone else hears of a change.
WorkerGroup::Options Observed(WorkerGroup::Options options, std::atomic<bool>& ready) {
  options.on_ready_changed = [&ready, next = std::move(options.on_ready_changed)](bool value) {
    ready = value;
    next(value);
  };
  return options;
}

}  // namespace

StepPump::StepPump(WorkerGroup::Options options, scheduler::Scheduler& scheduler,
                   std::function<absl::Time()> now)
    : scheduler_(scheduler),
      now_(std::move(now)),
      group_(Observed(std::move(options), group_ready_), scheduler) {}

void StepPump::Start() {
  thread_ = std::thread([this] { Run(); });
}

void StepPump::Stop() {
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void StepPump::Wake() {
  {
    const std::lock_guard lock(queue_mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

uint64_t StepPump::Attach(const std::shared_ptr<WorkerLink>& link) {
  uint64_t id = 0;
  {
    const std::lock_guard lock(queue_mutex_);
    if (!stopping_) {
      id = next_id_++;
      events_.push_back({id, link, std::nullopt});
    }
  }
  if (id == 0) {
    link->Close(absl::UnavailableError("the coordinator shuts down"));
  } else {
    wake_.notify_one();
  }
  return id;
}

void StepPump::Deliver(uint64_t id, v1::WorkerMessage message) {
  Post({id, nullptr, std::move(message)});
}

void StepPump::Detach(uint64_t id) { Post({id, nullptr, std::nullopt}); }

std::vector<v1::WorkerStatus> StepPump::WorkerStatuses() const {
  const std::lock_guard lock(group_mutex_);
  return group_.Statuses(now_());
}

absl::StatusOr<uint64_t> StepPump::StartTrace(const v1::TraceRequest& request,
                                              StepTracer::Done done) {
  uint64_t id = 0;
  {
    const std::lock_guard lock(group_mutex_);
    id = ++last_trace_id_;
    KVEC_RETURN_IF_ERROR(group_.tracer().Start(id, request, std::move(done), now_()));
  }
  Wake();  // there is another deadline
  return id;
}

void StepPump::CancelTrace(uint64_t id) {
  const std::lock_guard lock(group_mutex_);
  group_.tracer().Cancel(id);
}

void StepPump::Post(Event event) {
  {
    const std::lock_guard lock(queue_mutex_);
    if (stopping_) return;
    events_.push_back(std::move(event));
  }
  wake_.notify_one();
}

void StepPump::Run() {
  absl::Time due = absl::InfiniteFuture();
  while (true) {
    std::vector<Event> events;
    bool stopping = false;
    {
      std::unique_lock lock(queue_mutex_);
      AwaitWork(lock, due);
      woken_ = false;
      events.swap(events_);
      stopping = stopping_;
    }
    if (stopping) {
      ShutDown(std::move(events));
      return;
    }
    due = Turn(std::move(events));
  }
}

void StepPump::AwaitWork(std::unique_lock<std::mutex>& lock, absl::Time due) {
  const auto has_work = [this] { return woken_ || stopping_ || !events_.empty(); };
  if (due == absl::InfiniteFuture()) {
    wake_.wait(lock, has_work);
  } else {
    wake_.wait_until(lock, absl::ToChronoTime(absl::Now() + (due - now_())), has_work);
  }
}

void StepPump::ShutDown(std::vector<Event> events) {
  {
    const absl::Time now = now_();
    const std::lock_guard lock(group_mutex_);
    for (Event& event : events) {
      if (event.attached != nullptr) group_.OnAttach(event.id, std::move(event.attached), now);
    }
    group_.Shutdown(now);
    group_.tracer().Finish();
  }
  EndTraces();
}

absl::Time StepPump::Turn(std::vector<Event> events) {
  absl::Time due;
  {
    const absl::Time now = now_();
    const std::lock_guard lock(group_mutex_);
    for (Event& event : events) Handle(std::move(event), now);
    if (group_.NextTimeout() <= now) group_.OnTimeouts(now);
    if (group_.tracer().deadline() <= now) group_.tracer().Finish();
    if (scheduler_.NextDeadline() <= now) scheduler_.ExpireDeadlines(now);
    SendSteps(now);
    due = std::min({group_.NextTimeout(), group_.tracer().deadline(), scheduler_.NextDeadline()});
  }
  EndTraces();
  return due;
}

void StepPump::Handle(Event event, absl::Time now) {
  if (event.attached != nullptr) {
    group_.OnAttach(event.id, std::move(event.attached), now);
  } else if (!event.message.has_value()) {
    group_.OnDetach(event.id, now);
  } else if (event.message->has_step_result() && group_.tracer().is_on()) {
    const absl::Time begin = now_();
    group_.OnMessage(event.id, *event.message, now);
    group_.TraceResult(event.id, event.message->step_result(), begin, now_());
  } else {
    group_.OnMessage(event.id, *event.message, now);
  }
}

void StepPump::SendSteps(absl::Time now) {
  while (true) {
    const bool is_traced = group_.tracer().is_on();
    const absl::Time begin = is_traced ? now_() : now;
    std::optional<v1::Step> step = scheduler_.NextStep(now);
    if (!step.has_value()) return;
    if (is_traced) {
      group_.tracer().OnComposed(*step, begin, now_());
    } else if (now >= next_sample_) {
      step->set_trace(true);
      next_sample_ = now + kSampleInterval;
    }
    group_.SendStep(*step);
  }
}

void StepPump::EndTraces() {
  std::vector<std::function<void()>> ended;
  {
    const std::lock_guard lock(group_mutex_);
    ended = group_.tracer().TakeEnded();
  }
  for (const auto& done : ended) done();
}

}  // namespace kvec::coordinator::cluster
