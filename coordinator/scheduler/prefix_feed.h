#ifndef KVEC_COORDINATOR_SCHEDULER_PREFIX_FEED_H_
#define KVEC_COORDINATOR_SCHEDULER_PREFIX_FEED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "coordinator/scheduler/page_demand.h"

namespace kvec::coordinator::scheduler {

// A change to the blocks that prompts to come can share (PrefixIndex).
struct PrefixEvent {
  enum class Kind : uint8_t { kStored, kRemoved, kCleared };

  Kind kind = Kind::kCleared;
  uint64_t block_id = 0;
  uint64_t parent_id = 0;                        // of a stored one; 0: it begins a prompt
  std::array<int32_t, kPageTokens> tokens = {};  // of a stored one

  friend bool operator==(const PrefixEvent&, const PrefixEvent&) = default;
};

// The changes that one subscriber has not taken yet. Thread-safe.
class PrefixFeed {
 public:
  // The scheduler calls `wake`, under its lock, when there is something to take after there was
  // nothing: it must neither block nor call the scheduler.
  explicit PrefixFeed(std::function<void()> wake) : wake_(std::move(wake)) {}

  // The oldest changes, at most so many.
  std::vector<PrefixEvent> Take(size_t max_events);

  // By the scheduler. Adds what happened, or replaces all that was not taken by a new beginning.
  void Add(absl::Span<const PrefixEvent> events);
  void Restart(absl::Span<const PrefixEvent> events);
  size_t size() const;

 private:
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::deque<PrefixEvent> events_ ABSL_GUARDED_BY(mutex_);
};

// All subscribers. Guarded by the scheduler's lock.
class PrefixFeeds {
 public:
  static constexpr size_t kMaxFeeds = 16;
  // Changes that a subscriber may leave untaken, or twice the blocks there are if that is more.
  // Whoever is slower is told everything anew.
  static constexpr size_t kMaxUntaken = 1 << 16;

  // RESOURCE_EXHAUSTED when there are too many. A feed that its subscriber has dropped is
  // forgotten.
  absl::Status Add(const std::shared_ptr<PrefixFeed>& feed);
  bool empty() const { return feeds_.empty(); }
  // `state` lists the blocks there are now, `events` among them, as if all had just been stored.
  void Publish(absl::Span<const PrefixEvent> events,
               const std::function<std::vector<PrefixEvent>()>& state);

 private:
  std::vector<std::weak_ptr<PrefixFeed>> feeds_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_PREFIX_FEED_H_
