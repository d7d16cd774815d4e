#ifndef KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_MODEL_H_
#define KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_MODEL_H_

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/eviction_schedule.h"
#include "coordinator/scheduler/request.h"
#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

// A "language model" whose next token depends on everything that a real one's depends on: each
// token fed and the role it was fed in, the prompt's eviction, seed, choice and position. A
// sequence that was fed anything else, or in another role, goes on with other tokens.
class FakeModel {
 public:
  static constexpr int32_t kVocabSize = 211;

  // What the cache holds after some tokens.
  using State = uint64_t;
  static constexpr State kEmpty = 0x9e3779b97f4a7c15ull;

  static State Feed(State state, int32_t token, bool is_prompt);
  static State Evict(State state, const std::vector<uint32_t>& layer_budgets);
  // The last of the budgets says how many layers have curves.
  static v1::CurveReport Curves(State state, const v1::SequenceWork& work);
  // The token at `position`, which follows `state`.
  static int32_t Sample(State state, const v1::StepSampling& sampling, uint32_t prompt_tokens,
                        uint32_t position);
  static v1::TokenLogProbs LogProbs(State state, int32_t token, int32_t num_top);
};

// What one choice of a request is to produce, from a run of its own: the oracle.
struct ExpectedChoice {
  std::vector<int32_t> tokens;
  std::vector<v1::TokenLogProbs> logprobs;  // empty unless asked for (or forced)
  std::vector<v1::TokenLogProbs> prompt_logprobs;
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;
};

// stop_after: tokens after which the sink says kStop; 0: never.
ExpectedChoice RunAlone(const Request& request, uint32_t choice, const EvictionSchedule& schedule,
                        uint32_t stop_after);

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_TESTS_COORDINATOR_SCHEDULER_FAKE_MODEL_H_
