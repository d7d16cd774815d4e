#ifndef KVEC_WORKER_ENGINE_STEP_PLAN_H_
#define KVEC_WORKER_ENGINE_STEP_PLAN_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kernels/sampling.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/engine/sequence.h"
#include "worker/model/transformer.h"

namespace kvec::worker::engine {

using SequenceMap = absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>>;

// A Step's work as the model runs it, and what is wanted of its logits.
struct StepPlan {
  struct Output {
    int work = 0;                    // index in Step.work
    int result = 0;                  // index in StepResult.results
    kernels::SampleRequest request;  // `row` counts batch.logit_rows
    bool is_draw() const { return request.given_token < 0; }
  };

  model::TokenBatch batch;
  std::vector<Sequence*> sequences;            // of each work
  std::vector<Output> outputs;                 // by ascending request.row; a row may have several
  std::vector<kernels::SampleResult> samples;  // [outputs]: there once the device has come so far
  v1::StepResult result;  // results with their sequence and choice, in the order of work
};

// Lays the Step's work out in rows, makes room in the caches, and counts the tokens for penalties.
// INTERNAL when the Step does not fit the sequences (an unknown id, another position): coordinator
// and worker are out of step. RESOURCE_EXHAUSTED when the pool is too small for it. The caches are
// unchanged then but for work before the one that failed.
absl::StatusOr<StepPlan> PlanStep(const v1::Step& step, SequenceMap& sequences);

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_STEP_PLAN_H_
