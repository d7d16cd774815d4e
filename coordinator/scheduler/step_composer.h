#ifndef KVEC_COORDINATOR_SCHEDULER_STEP_COMPOSER_H_
#define KVEC_COORDINATOR_SCHEDULER_STEP_COMPOSER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/scheduler/page_ledger.h"
#include "coordinator/scheduler/request_table.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/session_table.h"
#include "coordinator/scheduler/steps_in_flight.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

// Decides what a Step does, for one group of workers. In this order:
//   frees of what has ended;
//   a decode token of every sequence of one micro-batch, by rank; when pages run dry the sequence
//   of the lowest rank is preempted; forks of choices whose prompt is through; chunks of known
//   tokens, by rank, of resident sequences and of waiting ones, which start when their whole prompt
//   fits. Evictions of prompts that a Step before has ended come before the chunks. Nobody
//   overtakes a waiting sequence that does not fit: small requests can't starve a large one.
// Guarded by the scheduler's lock; the referenced parts must outlive it.
class StepComposer {
 public:
  struct Totals {
    uint64_t prompt_tokens = 0;         // queued, replays not counted
    uint64_t prefix_cache_queries = 0;  // prompt tokens looked for in the cache
    uint64_t prefix_cache_hits = 0;     // and found there
    uint64_t last_sequence_id = 0;
  };

  // A pipeline of num_stages stages is full when as many Steps with different sequences are in
  // flight: decoding sequences are dealt out to that many micro-batches.
  StepComposer(const SchedulerOptions& options, uint32_t num_stages, RequestTable& requests,
               SessionTable& sessions, PageLedger& ledger, Totals& totals);

  struct Composed {
    v1::Step step;  // without step_id and group_epoch
    std::vector<WorkInFlight> work;
    bool is_empty() const;
  };

  // From now on waiting sequences stay where they are.
  void HoldStarts() { holds_starts_ = true; }
  bool holds_starts() const { return holds_starts_; }

  // num_in_flight: Steps sent and not yet answered.
  Composed Compose(size_t num_in_flight, absl::Time now);

 private:
  // A choice 0 whose last prompt row samples for all choices.
  struct ForkParent {
    std::shared_ptr<RequestState> request;
    uint64_t sequence_id;
  };

  void AddFrees();
  void AddDecodes();
  void AddForks();
  void AddChunks();
  // Sequences wait for pages that nothing in flight will free: gives the lowest in rank up.
  void BreakDeadlock();

  // Makes sure that a sequence can grow by one row, by preemption if need be.
  bool MakeRoom(Sequence& sequence);
  void Preempt(Sequence& sequence);
  // Ends a request that can't go on although it has the pool to itself.
  void FailForPages(Sequence& sequence);
  enum class Admission { kStarted, kMustWait, kFailed };
  // Starts a waiting sequence if it fits now; fails its request if it never will.
  Admission Start(Sequence& sequence);
  // Reserves pages for a waiting sequence, and fills in which kept blocks it shares. False when it
  // does not fit now.
  bool Reserve(const Sequence& sequence, PageLedger::Reservation reservation,
               v1::SequenceStart& start);
  // Lets a waiting sequence go on where its session's last request has stopped. Nothing when the
  // workers no longer hold that: it is to be replayed.
  std::optional<Admission> Resume(Sequence& sequence);
  void ForkChoices(const ForkParent& parent);
  void AddDecode(Sequence& sequence);
  // Returns the rows added, 0 when the sequence must wait for pages.
  uint32_t AddChunk(Sequence& sequence, uint32_t max_rows);
  // Has the workers keep what is complete of the prompt, for prompts to come.
  void KeepPrompt(const Sequence& sequence, uint32_t num_rows);
  // Orders the eviction that is due after the work, or the curves that it waits for, if there is
  // one.
  void OrderEviction(Sequence& sequence, v1::SequenceWork& work, WorkPlan& plan);
  // Has prompts read again whose evictions are due, and orders those that nothing is missing for.
  void AddDueEvictions();
  void AddDueEviction(Sequence& sequence, uint64_t sequence_id);
  // How many rows of prompts the Step has room for.
  uint32_t MaxPromptRows() const;
  void AddEviction(const RequestState& request, uint64_t sequence_id, WorkPlan& plan);
  void SampleForks(Sequence& sequence, v1::SequenceWork& work, WorkPlan& plan);
  void AddToMicroBatch(Sequence& sequence);
  void Record(Sequence& sequence, const WorkPlan& plan);
  void FillStart(const Sequence& sequence, uint64_t sequence_id, v1::SequenceStart& start) const;

  const SchedulerOptions options_;
  RequestTable& requests_;
  SessionTable& sessions_;
  PageLedger& ledger_;
  Totals& totals_;

  bool holds_starts_ = false;
  uint32_t last_micro_batch_ = 0;
  std::vector<ForkParent> fork_parents_;  // whose forks are still to be made

  // Of the Step being composed.
  Composed composed_;
  absl::Time now_;
  uint32_t rows_left_ = 0;
  uint32_t num_prompt_rows_ = 0;                       // read again so far
  std::vector<Sequence*> evicted_;                     // whose eviction was due
  bool is_decoding_ = false;                           // some sequence, of whichever micro-batch
  std::vector<std::vector<Sequence*>> micro_batches_;  // [num_stages], by rank; that want to decode
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_STEP_COMPOSER_H_
