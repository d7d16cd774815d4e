#ifndef KVEC_WORKER_ENGINE_SAMPLED_TOKENS_H_
#define KVEC_WORKER_ENGINE_SAMPLED_TOKENS_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "worker/comm/group_comm.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_plan.h"

namespace kvec::worker::engine {

// Brings the tokens that the last stage's rank 0 samples to all workers of the group, which feed
// them in later Steps. That rank sends those of a Step as soon as it has them; the others receive
// them when a sequence's next row needs them, so that no stage waits for a Step that its own does
// not depend on. Messages are short enough for the communicator to take them before anyone
// receives. Owned by the engine, called from its thread.
class SampledTokens {
 public:
  // `sequences` outlives the result.
  explicit SampledTokens(SequenceMap& sequences) : sequences_(sequences) {}

  // Forgets what is under way.
  void SetComm(comm::GroupComm* comm);

  // Whether it is this worker that samples.
  bool IsHere() const;

  // After a Step's pass: sends what was sampled, or takes note of what is to come.
  absl::Status Share(const StepPlan& plan);

  // Makes sure that the sequence knows what was last sampled for it.
  absl::Status Await(Sequence& sequence);

 private:
  // A token to be sampled.
  struct Draw {
    uint64_t sequence_id;
    uint32_t choice;
  };

  absl::Status Send(const std::vector<int32_t>& tokens);
  absl::Status ReceiveNext();

  SequenceMap& sequences_;
  comm::GroupComm* comm_ = nullptr;
  // Steps that have sampled are numbered from 1.
  uint64_t num_received_ = 0;
  std::deque<std::vector<Draw>> pending_;  // of the Steps after those received
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_SAMPLED_TOKENS_H_
