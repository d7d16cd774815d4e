#include "coordinator/cluster/step_pump.h"

#include <algorithm>
#include <utility>

namespace kvec::coordinator::cluster {

StepPump::StepPump(WorkerGroup::Options options, scheduler::Scheduler& scheduler,
                   std::function<absl::Time()> now)
    : scheduler_(scheduler), now_(std::move(now)), group_(std::move(options), scheduler) {}

void StepPump::Start() {
  thread_ = std::thread([this] { Run(); });
}

void StepPump::Stop() {
  {
    absl::MutexLock lock(&queue_mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void StepPump::Wake() {
  absl::MutexLock lock(&queue_mutex_);
  woken_ = true;
}

uint64_t StepPump::Attach(std::shared_ptr<WorkerLink> link) {
  {
    absl::MutexLock lock(&queue_mutex_);
    if (!stopping_) {
      events_.push_back({next_id_, std::move(link), std::nullopt});
      return next_id_++;
    }
  }
  link->Close(absl::UnavailableError("the coordinator shuts down"));
  return 0;
}

void StepPump::Deliver(uint64_t id, v1::WorkerMessage message) {
  Post({id, nullptr, std::move(message)});
}

void StepPump::Detach(uint64_t id) { Post({id, nullptr, std::nullopt}); }

std::vector<v1::WorkerStatus> StepPump::WorkerStatuses() const {
  absl::MutexLock lock(&group_mutex_);
  return group_.Statuses(now_());
}

void StepPump::Post(Event event) {
  absl::MutexLock lock(&queue_mutex_);
  if (!stopping_) events_.push_back(std::move(event));
}

bool StepPump::HasWork() const { return woken_ || stopping_ || !events_.empty(); }

void StepPump::Run() {
  absl::Time due = absl::InfiniteFuture();
  while (true) {
    std::vector<Event> events;
    bool stopping = false;
    {
      absl::MutexLock lock(&queue_mutex_);
      queue_mutex_.AwaitWithTimeout(absl::Condition(this, &StepPump::HasWork), due - now_());
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

void StepPump::ShutDown(std::vector<Event> events) {
  const absl::Time now = now_();
  absl::MutexLock lock(&group_mutex_);
  for (Event& event : events) {
    if (event.attached != nullptr) group_.OnAttach(event.id, std::move(event.attached), now);
  }
  group_.Shutdown(now);
  group_ready_ = false;
}

absl::Time StepPump::Turn(std::vector<Event> events) {
  const absl::Time now = now_();
  absl::MutexLock lock(&group_mutex_);
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
  group_ready_ = group_.ready();
  while (std::optional<v1::Step> step = scheduler_.NextStep(now)) group_.SendStep(*step);
  return std::min(group_.NextTimeout(), scheduler_.NextDeadline());
}

}  // namespace kvec::coordinator::cluster
