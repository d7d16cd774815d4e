#ifndef KVEC_COORDINATOR_SCHEDULER_RESULT_READER_H_
#define KVEC_COORDINATOR_SCHEDULER_RESULT_READER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/budget_allocator.h"
#include "coordinator/scheduler/page_ledger.h"
#include "coordinator/scheduler/request_table.h"
#include "coordinator/scheduler/steps_in_flight.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

// Reads what workers answered to a Step: pages go to the ledger, tokens, scores and curves to their
// requests. Tokens and scores come last, when all workers have answered: what they end is told its
// pages and evictions on every one of them. What belongs to a choice that has ended meanwhile is
// dropped. Guarded by the scheduler's lock; the referenced parts must outlive it.
class ResultReader {
 public:
  // num_kv_heads: of a layer of the model. `budgets` may be null: no request is evicted.
  ResultReader(uint32_t num_kv_heads, RequestTable& requests, PageLedger& ledger,
               const BudgetAllocator* budgets, uint64_t& num_generated)
      : num_kv_heads_(num_kv_heads),
        requests_(requests),
        ledger_(ledger),
        budgets_(budgets),
        num_generated_(num_generated) {}

  // One worker's result. INTERNAL when it does not fit `step`.
  absl::Status Read(uint32_t worker, StepInFlight& step, const v1::StepResult& result);
  // After all workers': their tokens and scores. INTERNAL as Read; what came before the fault is
  // delivered.
  absl::Status ReadResults(StepInFlight& step, absl::Time now);

 private:
  absl::Status ReadPages(uint32_t worker, StepInFlight& step, const v1::StepResult& result);
  absl::Status ReadCurves(StepInFlight& step, const v1::CurveReport& report);
  absl::Status ReadSequence(StepInFlight& step, const v1::SequenceResult& result, absl::Time now);
  void ReadScores(WorkInFlight& work, const v1::SequenceResult& result, absl::Time now);
  void ReadSample(WorkInFlight& work, const v1::SequenceResult& result, absl::Time now);
  // Hands a token to the request, and ends the choice if it is its last one.
  void Deliver(Sequence& sequence, int32_t token, const v1::TokenLogProbs* logprobs,
               absl::Time now);

  const uint32_t num_kv_heads_;
  RequestTable& requests_;
  PageLedger& ledger_;
  const BudgetAllocator* const budgets_;
  uint64_t& num_generated_;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_RESULT_READER_H_
