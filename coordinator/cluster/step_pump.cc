#include "coordinator/cluster/step_pump.h"

#include <algorithm>
#include <utility>

namespace kvec::coordinator::cluster {
namespace {

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
  const absl::Time now = now_();
  const std::lock_guard lock(group_mutex_);
  for (Event& event : events) {
    if (event.attached != nullptr) group_.OnAttach(event.id, std::move(event.attached), now);
  }
  group_.Shutdown(now);
}

absl::Time StepPump::Turn(std::vector<Event> events) {
  const absl::Time now = now_();
  const std::lock_guard lock(group_mutex_);
  for (Event& event : events) {
    if (event.attached != nullptr) {
      group_.OnAttach(event.id, std::move(event.attached), now);
    } else if (event.message.has_value()) {
      group_.OnMessage(event.id, *event.message, now);
    } else {
      group_.OnDetach(event.id, now);
    }
  }
  if (group_.NextTimeout() <= now) group_.OnTimeouts(now);
  if (scheduler_.NextDeadline() <= now) scheduler_.ExpireDeadlines(now);
  while (std::optional<v1::Step> step = scheduler_.NextStep(now)) group_.SendStep(*step);
  return std::min(group_.NextTimeout(), scheduler_.NextDeadline());
}

}  // namespace kvec::coordinator::cluster
