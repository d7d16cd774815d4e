#ifndef KVEC_COORDINATOR_SCHEDULER_SESSION_TABLE_H_
#define KVEC_COORDINATOR_SCHEDULER_SESSION_TABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/eviction_schedule.h"
#include "coordinator/scheduler/eviction_summary.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// Positions begin … end - 1 of a sequence.
struct PositionSpan {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// What the requests with one session id have said so far, all that a replay needs: which tokens,
// which of them were fed as prompts, and when the first request's cache was evicted.
struct Session {
  explicit Session(std::string session_id) : id(std::move(session_id)) {}

  const std::string id;
  std::vector<int32_t> tokens;  // empty until the first request has finished
  // One span per request. The last token of an answer has no row of its own: it is fed as the
  // first of the next prompt.
  std::vector<PositionSpan> prompts;
  v1::CachePolicy cache;
  EvictionSchedule schedule;
  EvictionSummary eviction;
  // On the workers, with a row for each token but the last, unless the ledger has reclaimed it.
  uint64_t sequence_id = 0;
  bool in_use = false;  // by a request between Submit and OnDone
  absl::Time last_used = absl::InfinitePast();
};

// The sessions that follow-ups may continue. One ends when nobody has used it for `ttl`, or when it
// makes room for a new one as the least recently used. Guarded by the scheduler's lock.
class SessionTable {
 public:
  SessionTable(absl::Duration ttl, uint32_t max_sessions)
      : ttl_(ttl), max_sessions_(max_sessions) {}

  // The clock of what follows.
  void Advance(absl::Time now) { now_ = now; }

  // Whether there is something to continue.
  bool Contains(absl::string_view id) const;
  // Whether there is one, even if no request of it has finished.
  bool Knows(absl::string_view id) const { return sessions_.contains(id); }
  // The session for a request to use until Leave: a new one if there is none. ABORTED while another
  // request uses it, RESOURCE_EXHAUSTED when all sessions are in use.
  absl::StatusOr<std::shared_ptr<Session>> Enter(const std::string& id);
  // A session that no request has finished ends with this.
  void Leave(Session& session);

  // Ends those that were not used for long.
  void Expire();
  absl::Time NextExpiry() const;
  // Sequences of sessions that have ended.
  std::vector<uint64_t> TakeEnded() { return std::exchange(ended_, {}); }

  uint32_t size() const { return static_cast<uint32_t>(sessions_.size()); }

 private:
  // The least recently used one that is not in use; null: none.
  Session* FindOldest() const;
  void End(Session& session);

  const absl::Duration ttl_;
  const uint32_t max_sessions_;
  absl::Time now_ = absl::InfinitePast();
  absl::flat_hash_map<std::string, std::shared_ptr<Session>> sessions_;  // by id
  std::vector<uint64_t> ended_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_SESSION_TABLE_H_
