#include "coordinator/cluster/step_pump.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace kvec::coordinator::cluster {
namespace {

// One Step of a replica in so long reports its spans, for metrics.
constexpr absl::Duration kSampleInterval = absl::Seconds(1);

// Keeps `ready` up to date before anyone else hears of a change.
ReplicaSet::Options Observed(ReplicaSet::Options options, std::atomic<bool>& ready) {
  options.on_ready_changed = [&ready, next = std::move(options.on_ready_changed)](bool value) {
    ready = value;
    next(value);
  };
  return options;
}

}  // namespace

StepPump::StepPump(ReplicaSet::Options options, std::vector<scheduler::Scheduler*> schedulers,
                   std::function<absl::Time()> now)
    : schedulers_(std::move(schedulers)),
      now_(std::move(now)),
      replicas_(Observed(std::move(options), group_ready_), schedulers_),
      next_samples_(schedulers_.size(), absl::InfinitePast()) {
  num_replicas_ = replicas_.num_replicas();
}

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
  return replicas_.Statuses(now_());
}

absl::StatusOr<uint64_t> StepPump::StartTrace(const v1::TraceRequest& request,
                                              StepTracer::Done done) {
  uint64_t id = 0;
  {
    const std::lock_guard lock(group_mutex_);
    id = ++last_trace_id_;
    KVEC_RETURN_IF_ERROR(replicas_.StartTrace(id, request, std::move(done), now_()));
  }
  Wake();  // there is another deadline
  return id;
}

void StepPump::CancelTrace(uint64_t id) {
  const std::lock_guard lock(group_mutex_);
  replicas_.CancelTrace(id);
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
    ++num_turns_;
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
      if (event.attached != nullptr) replicas_.OnAttach(event.id, std::move(event.attached), now);
    }
    replicas_.Shutdown(now);
    replicas_.FinishTraces(absl::InfiniteFuture());
  }
  EndTraces();
}

absl::Time StepPump::Turn(std::vector<Event> events) {
  absl::Time due;
  {
    const absl::Time now = now_();
    const std::lock_guard lock(group_mutex_);
    for (Event& event : events) Handle(std::move(event), now);
    if (replicas_.NextTimeout() <= now) replicas_.OnTimeouts(now);
    num_replicas_ = replicas_.num_replicas();
    replicas_.FinishTraces(now);
    for (size_t replica = 0; replica < schedulers_.size(); ++replica) {
      scheduler::Scheduler& scheduler = *schedulers_[replica];
      if (scheduler.NextDeadline() <= now) scheduler.ExpireDeadlines(now);
      SendSteps(replica, now);
    }
    due = std::min(replicas_.NextTimeout(), replicas_.NextTraceDeadline());
    for (const scheduler::Scheduler* scheduler : schedulers_) {
      due = std::min(due, scheduler->NextDeadline());
    }
  }
  EndTraces();
  return due;
}

void StepPump::Handle(Event event, absl::Time now) {
  if (event.attached != nullptr) {
    replicas_.OnAttach(event.id, std::move(event.attached), now);
    return;
  }
  if (!event.message.has_value()) {
    replicas_.OnDetach(event.id, now);
    return;
  }
  WorkerGroup* group = event.message->has_step_result() ? replicas_.GroupOf(event.id) : nullptr;
  const bool is_traced = group != nullptr && group->tracer().is_on();
  const absl::Time begin = is_traced ? now_() : now;
  replicas_.OnMessage(event.id, *event.message, now);
  // Unless the result was a reason to break the group.
  if (is_traced && group->Contains(event.id)) {
    group->TraceResult(event.id, event.message->step_result(), begin, now_());
  }
}

void StepPump::SendSteps(size_t replica, absl::Time now) {
  WorkerGroup& group = replicas_.group(replica);
  while (true) {
    const bool is_traced = group.tracer().is_on();
    const absl::Time begin = is_traced ? now_() : now;
    std::optional<v1::Step> step = schedulers_[replica]->NextStep(now);
    if (!step.has_value()) return;
    if (is_traced) {
      group.tracer().OnComposed(*step, begin, now_());
    } else if (now >= next_samples_[replica]) {
      step->set_trace(true);
      next_samples_[replica] = now + kSampleInterval;
    }
    group.SendStep(*step);
  }
}

void StepPump::EndTraces() {
  std::vector<std::function<void()>> ended;
  {
    const std::lock_guard lock(group_mutex_);
    ended = replicas_.TakeEndedTraces();
  }
  for (const auto& done : ended) done();
}

}  // namespace kvec::coordinator::cluster
