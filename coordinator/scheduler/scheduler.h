#ifndef KVEC_COORDINATOR_SCHEDULER_SCHEDULER_H_
#define KVEC_COORDINATOR_SCHEDULER_SCHEDULER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/scheduler/budget_allocator.h"
#include "coordinator/scheduler/prefix_feed.h"
#include "coordinator/scheduler/request.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

// What one worker of the group holds: enough to foresee the pages a sequence needs there.
struct WorkerCapacity {
  uint64_t total_pages = 0;
  uint64_t page_bytes = 0;
  uint32_t stage = 0;
  uint32_t num_kv_heads = 0;              // of this rank
  uint32_t num_repeated_kv_heads = 0;     // of these, those that a rank before it holds too
  std::vector<uint32_t> sliding_windows;  // of this stage's layers; 0: full attention
};

struct SchedulerOptions {
  // Of a layer of the model: ranks may hold the same one. 0: as many as the workers of the first
  // stage hold together.
  uint32_t num_kv_heads = 0;
  uint32_t step_tokens = 512;  // rows of a Step at most
  // Prompt rows of a Step at most while any sequence decodes: bounds the decodes' stall.
  uint32_t mixed_prompt_tokens = 256;
  uint32_t max_running_sequences = 256;  // at most step_tokens count
  uint32_t max_prompt_tokens = 0;        // of a request, without its session's; 0: any number
  uint32_t max_waiting_requests = 1024;
  uint64_t max_waiting_tokens = 1 << 22;  // prompt tokens
  uint32_t max_steps_in_flight = 2;       // or the number of stages + 1 if that is more
  // Prompts that begin alike share pages, and their prefill, as long as no other request needs the
  // room. Has no effect on models with sliding windows.
  bool prefix_caching = true;
  absl::Duration session_ttl = absl::Minutes(10);  // since a session's last request
  uint32_t max_sessions = 1024;
  // A request that was running when so many groups were lost, one after the other, without another
  // token of its answer between them, is what they die of, and is ended.
  uint32_t most_losses = 5;
};

struct SchedulerCounts {
  uint32_t num_running = 0;  // requests
  uint32_t num_waiting = 0;
  uint64_t waiting_prompt_tokens = 0;
  uint64_t steps = 0;
  uint64_t generated_tokens = 0;
  uint64_t prompt_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t prefix_cache_queries = 0;  // prompt tokens looked for in the cache
  uint64_t prefix_cache_hits = 0;     // and found there
  uint32_t num_sessions = 0;
  uint64_t num_tokens = 0;  // of the requests that run or wait: prompts and what was generated
};

// Continuous batching over one group of workers. A pure state machine: no threads, no RPC, no
// clock of its own. The server feeds it requests and results from any thread; one pump thread sends
// what NextStep composes. See DESIGN.md, "One token's way".
class Scheduler {
 public:
  virtual ~Scheduler() = default;

  // Queues a request. RESOURCE_EXHAUSTED at once when the queue is full, or when the request could
  // never fit the group's pages (without a group it waits, and ends so when one is ready that is
  // too small); ALREADY_EXISTS for the id of another one; INVALID_ARGUMENT for a prompt beyond
  // max_prompt_tokens, an unknown cache policy, and for what a session has no room for; ABORTED
  // while another request uses the session.
  virtual absl::Status Submit(Request request, absl::Time now) = 0;

  // Whether a request can follow up on this session.
  virtual bool HasSession(absl::string_view session_id) const = 0;

  // For whoever chooses among several schedulers. kHeld: the group is soon to be given up.
  enum class Readiness { kNoGroup, kHeld, kServing };
  virtual Readiness readiness() const = 0;
  // Whether it has this request, or this session, which may be at its first request.
  virtual bool Knows(absl::string_view request_id, absl::string_view session_id) const = 0;
  // How many tokens at the beginning of a prompt its workers have kept.
  virtual uint32_t CountCachedTokens(absl::Span<const int32_t> prompt) const = 0;

  // Ends a request with `reason` (CANCELLED, DEADLINE_EXCEEDED …); its pages are freed by the next
  // Step. Does nothing for an unknown id.
  virtual void Cancel(absl::string_view request_id, absl::Status reason, absl::Time now) = 0;

  // A group is ready: its workers in stage-major order. Waiting and interrupted requests go on.
  virtual void OnGroupReady(uint64_t epoch, std::vector<WorkerCapacity> workers,
                            absl::Time now) = 0;

  // The group is soon to be given up: of the waiting requests none is started on it.
  virtual void HoldStarts() = 0;

  // The group is gone. Running requests wait for the next one and are replayed there; nothing that
  // was delivered is delivered twice.
  virtual void OnGroupLost(absl::Time now) = 0;

  // The next Step to send to every worker, or nothing: no work, no group, or enough in flight.
  virtual std::optional<v1::Step> NextStep(absl::Time now) = 0;

  // One worker's result of a Step. Results of an older epoch are ignored. INTERNAL when the result
  // does not fit what was sent: the group must be abandoned.
  virtual absl::Status OnStepResult(uint32_t worker, const v1::StepResult& result,
                                    absl::Time now) = 0;

  // The earliest deadline of requests and sessions; the pump wakes then and calls ExpireDeadlines.
  virtual absl::Time NextDeadline() const = 0;
  virtual void ExpireDeadlines(absl::Time now) = 0;

  // The feed gets what the prefix cache holds, as a new beginning, and then every change, until it
  // is dropped. RESOURCE_EXHAUSTED when there are too many.
  virtual absl::Status Subscribe(const std::shared_ptr<PrefixFeed>& feed) = 0;

  virtual SchedulerCounts counts() const = 0;
  // Of at most `max_requests` requests, the oldest first.
  virtual std::vector<v1::RequestStatus> RequestStatuses(uint32_t max_requests,
                                                         absl::Time now) const = 0;
  virtual std::vector<uint64_t> free_pages() const = 0;  // per worker, as last reported
  // Per worker: held by the prefix cache and by idle sessions alone, and given up as soon as a
  // request needs them.
  virtual std::vector<uint64_t> cached_pages() const = 0;
};

// Thread-safe. Without `budgets` only requests with cache policy "full" are accepted.
std::unique_ptr<Scheduler> CreateScheduler(
    const SchedulerOptions& options, std::shared_ptr<const BudgetAllocator> budgets = nullptr);

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_SCHEDULER_H_
