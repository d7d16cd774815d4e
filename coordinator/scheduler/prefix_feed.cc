#include "coordinator/scheduler/prefix_feed.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {

std::vector<PrefixEvent> PrefixFeed::Take(size_t max_events) {
  const std::lock_guard lock(mutex_);
  const auto end = events_.begin() + std::min(max_events, events_.size());
  std::vector<PrefixEvent> taken(events_.begin(), end);
  events_.erase(events_.begin(), end);
  return taken;
}

void PrefixFeed::Add(absl::Span<const PrefixEvent> events) {
  if (events.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    const bool was_empty = events_.empty();
    events_.insert(events_.end(), events.begin(), events.end());
    if (!was_empty) return;
  }
  wake_();
}

void PrefixFeed::Restart(absl::Span<const PrefixEvent> events) {
  {
    const std::lock_guard lock(mutex_);
    events_.assign(1, {.kind = PrefixEvent::Kind::kCleared});
    events_.insert(events_.end(), events.begin(), events.end());
  }
  wake_();
}

size_t PrefixFeed::size() const {
  const std::lock_guard lock(mutex_);
  return events_.size();
}

absl::Status PrefixFeeds::Add(const std::shared_ptr<PrefixFeed>& feed) {
  std::erase_if(feeds_, [](const auto& known) { return known.expired(); });
  if (feeds_.size() >= kMaxFeeds) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there are ", kMaxFeeds, " subscribers to the prefix cache already"));
  }
  feeds_.push_back(feed);
  return absl::OkStatus();
}

void PrefixFeeds::Publish(absl::Span<const PrefixEvent> events,
                          const std::function<std::vector<PrefixEvent>()>& state) {
  std::erase_if(feeds_, [&](const std::weak_ptr<PrefixFeed>& weak) {
    const std::shared_ptr<PrefixFeed> feed = weak.lock();
    if (feed == nullptr) return true;
    if (feed->size() + events.size() <= kMaxUntaken) {
      feed->Add(events);
      return false;
    }
    const std::vector<PrefixEvent> all = state();
    if (feed->size() + events.size() <= 2 * all.size()) {
      feed->Add(events);
    } else {
      feed->Restart(all);
    }
    return false;
  });
}

}  // namespace kvec::coordinator::scheduler
