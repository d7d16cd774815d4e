#ifndef KVEC_COORDINATOR_SCHEDULER_REQUEST_TABLE_H_
#define KVEC_COORDINATOR_SCHEDULER_REQUEST_TABLE_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/page_ledger.h"
#include "coordinator/scheduler/request_state.h"
#include "coordinator/scheduler/wait_queue.h"

namespace kvec::coordinator::scheduler {

// All requests between Submit and OnDone, and where each of their sequences is: waiting, or on the
// workers ("resident"). The only place where sequences change between the two and where requests
// end. Guarded by the scheduler's lock.
class RequestTable {
 public:
  using Residents = std::set<Sequence*, RankLess>;

  // A sequence that has ended while it was resident; its pages are still to be freed.
  struct Retired {
    uint64_t sequence_id;
    std::shared_ptr<RequestState> request;
  };

  // `sessions` must outlive the table.
  RequestTable(uint32_t max_waiting_requests, uint64_t max_waiting_tokens, uint32_t most_losses,
               SessionTable& sessions)
      : most_losses_(most_losses),
        queue_(max_waiting_requests, max_waiting_tokens),
        sessions_(sessions) {}

  // Queues a request. RESOURCE_EXHAUSTED when the queue is full, ALREADY_EXISTS for a known id.
  absl::Status Add(const std::shared_ptr<RequestState>& request);
  std::shared_ptr<RequestState> Find(absl::string_view request_id) const;

  // A waiting sequence goes to the workers, where its first num_cached_rows rows are already.
  void Start(Sequence& sequence, uint64_t sequence_id, uint32_t num_cached_rows);
  // A choice is forked from the resident choice 0.
  void StartForked(Sequence& sequence, uint64_t sequence_id);
  // A resident sequence goes back to the queue, to be replayed. Choices that were to be forked from
  // it do so too, each for itself. The caller frees its pages.
  void Preempt(Sequence& sequence);
  // The group is lost: every resident sequence goes back to the queue, nothing is left to be freed.
  // INTERNAL for a request that was lost with most_losses groups in a row.
  void SuspendAll();

  // Ends a choice; with the last one, the request. `ledger` gives what it held. A session's
  // sequence stays on the workers, idle.
  void FinishChoice(Sequence& sequence, v1::FinishReason reason, PageLedger& ledger);
  // Ends the request with all its choices. Their pages are to be freed.
  void Finish(RequestState& request, const absl::Status& status);

  // Sequences whose pages the next Step is to free; not those that a choice is to be forked from.
  std::vector<Retired> TakeRetired();

  absl::Time NextDeadline() const;
  std::vector<std::shared_ptr<RequestState>> Expired(absl::Time now) const;
  std::vector<std::shared_ptr<RequestState>> All() const;

  const WaitQueue& queue() const { return queue_; }
  const Residents& residents() const { return residents_; }
  bool has_retired() const { return !retired_.empty(); }
  // Resident sequences, and those that will be forked from one of them.
  uint32_t num_slots() const;
  // Whether a request on the workers is a suspect; see loss_record.h.
  bool HasResidentSuspect() const;
  uint32_t num_running() const { return num_running_; }  // requests with a resident sequence
  uint32_t num_waiting() const { return static_cast<uint32_t>(requests_.size()) - num_running_; }
  uint64_t num_preemptions() const { return num_preemptions_; }
  // Of all requests: prompts and what was generated.
  uint64_t num_tokens() const;

 private:
  void AddResident(Sequence& sequence);
  void RemoveResident(Sequence& sequence);
  void Requeue(Sequence& sequence);
  // Takes the sequence from where it is; it has ended, and its pages are to be freed.
  void Retire(Sequence& sequence);
  // Leaves to the session what its next request needs.
  void RecordTurn(Sequence& sequence, PageLedger& ledger);

  const uint32_t most_losses_;
  absl::flat_hash_map<std::string, std::shared_ptr<RequestState>> requests_;  // by id
  std::set<std::pair<absl::Time, RequestState*>> deadlines_;
  WaitQueue queue_;
  SessionTable& sessions_;
  Residents residents_;
  std::vector<Retired> retired_;
  uint32_t num_running_ = 0;
  uint32_t num_joined_ = 0;  // choices that wait for their resident choice 0
  uint64_t num_preemptions_ = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REQUEST_TABLE_H_
