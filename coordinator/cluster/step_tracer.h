#ifndef KVEC_COORDINATOR_CLUSTER_STEP_TRACER_H_
#define KVEC_COORDINATOR_CLUSTER_STEP_TRACER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvec/v1/cluster.pb.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::cluster {

// Gathers one trace: what the workers tell of the Steps that it has marked, and what the
// coordinator did meanwhile. Workers' clocks are moved, as little as it takes for no Step to begin
// before it was sent and no result to come before it was made. Not thread-safe: WorkerGroup's
// thread.
class StepTracer {
 public:
  using Done = std::function<void(v1::TraceResponse)>;

  static constexpr uint32_t kMaxSteps = 1000;

  // INVALID_ARGUMENT for a request that is none, ABORTED while there is another trace. `id` is the
  // caller's, for Cancel.
  absl::Status Start(uint64_t id, const v1::TraceRequest& request, Done done, absl::Time now);
  // The caller is gone.
  void Cancel(uint64_t id);

  // Whether there is a trace: what is timed below is of interest.
  bool is_on() const { return trace_ != nullptr; }

  // The group whose Steps follow; rows for each of its workers, in their order, without spans.
  void BeginGroup(std::vector<v1::TraceRow> workers) { workers_ = std::move(workers); }
  // Ends a trace that has begun with what there is.
  void EndGroup();

  // A Step that was composed from `begin` until now, and is about to be sent.
  void OnComposed(v1::Step& step, absl::Time begin, absl::Time now);
  // A worker's result, read from `begin` until now.
  void OnResult(size_t worker, const v1::StepResult& result, absl::Time begin, absl::Time now);

  // When the trace, if there is one, must Finish.
  absl::Time deadline() const;
  // Ends the trace, if there is one, with what there is.
  void Finish();

  // Ended traces' Done, to be called when no lock is held.
  std::vector<std::function<void()>> TakeEnded() { return std::exchange(ended_, {}); }

 private:
  // What a worker's results tell of its clock: how far it may be ahead of the coordinator's.
  struct Clock {
    int64_t at_least_ns = INT64_MIN;
    int64_t at_most_ns = INT64_MAX;
    int64_t AheadBy() const;
  };

  struct Trace {
    uint64_t id = 0;
    uint32_t num_steps = 0;  // wanted
    absl::Time deadline;
    Done done;
    uint32_t num_marked = 0;
    uint32_t num_answered = 0;               // by all workers
    std::map<uint64_t, absl::Time> sent;     // by Step
    std::map<uint64_t, size_t> num_results;  // by Step
    std::vector<v1::TraceRow> rows;          // the coordinator's first
    std::vector<Clock> clocks;               // of the workers
  };

  void AddSpan(const char* name, absl::Time begin, absl::Time end, uint64_t step_id);

  std::vector<v1::TraceRow> workers_;
  std::unique_ptr<Trace> trace_;
  std::vector<std::function<void()>> ended_;
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_STEP_TRACER_H_
