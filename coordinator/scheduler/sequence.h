#ifndef KVEC_COORDINATOR_SCHEDULER_SEQUENCE_H_
#define KVEC_COORDINATOR_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <vector>

#include "kvec/v1/cluster.pb.h"

namespace kvec::coordinator::scheduler {

struct RequestState;

// Tokens of a prompt that are read again at a time: the workers hold them beside the prompt.
inline constexpr uint32_t kMaxReadingRows = 256;

// What a Step asks of one sequence, as its result is matched against it.
struct WorkPlan {
  uint32_t rows_after = 0;    // fed when the work is done
  uint32_t num_samples = 0;   // 0, 1, or one per choice of the request
  uint32_t first_scored = 0;  // position of the first token scored
  uint32_t num_scored = 0;
  bool is_evicted = false;  // at its end: every worker is to report what was kept
  uint32_t num_curves = 0;  // of layers, to be reported
};

// One choice of a request: which tokens it has, which of them were fed to the workers, and what it
// needs next. It knows nothing of pages or of other sequences. Owned by its RequestState.
//
// A sequence is fed in two phases. First come the tokens that are known, in chunks: the prompt,
// then (in a replay, or when they are forced) generated ones. Then one token at a time is decoded,
// each queued before the Step that samples it has ended.
class Sequence {
 public:
  enum class State {
    kWaiting,  // in the queue: new, preempted, or without a group
    kJoined,   // waits for choice 0, which prefills the prompt for all choices
    kChunks,   // on the workers; known tokens are still to be queued
    kForkDue,  // choice 0's last prompt row samples its first token; to be forked from choice 0
    kDecode,   // on the workers; every known token is queued
    kFinished,
  };

  Sequence(RequestState& request, uint32_t choice);

  RequestState& request() const { return request_; }
  uint32_t choice() const { return choice_; }
  State state() const { return state_; }
  bool is_resident() const { return sequence_id_ != 0; }
  uint64_t sequence_id() const { return sequence_id_; }  // on the workers; 0: not there
  uint32_t num_rows() const { return num_rows_; }        // fed or queued
  const std::vector<int32_t>& generated() const { return generated_; }
  uint32_t num_delivered() const { return num_delivered_; }  // generated tokens
  uint32_t num_unanswered() const { return num_unanswered_; }
  // The prompt is fed for the second time.
  bool is_replay() const { return num_starts_ > 1; }

  // Prompt and generated tokens.
  uint32_t num_tokens() const;
  // Rows that are fed in chunks when the sequence starts now.
  uint32_t num_known_rows() const;
  // Rows that the sequence needs pages for before it may start. What is generated after an eviction
  // finds the room that the eviction has made.
  uint32_t num_reserved_rows() const;
  // Rows at the prompt's begin that may come from earlier requests: not those that the client wants
  // scored, not the last one, which samples, and none whose query the eviction scores by.
  uint32_t max_cached_rows() const;
  // Whether the sequence will feed another token after those that are queued.
  bool WantsDecode() const;
  bool NeedsFork() const { return state_ == State::kForkDue && WantsMoreTokens(); }

  // The sequence goes to the workers and begins with the first token that is not cached there.
  void Start(uint64_t sequence_id, uint32_t num_cached_rows);
  // It leaves them; what was generated stays.
  void Suspend();
  void Finish();
  // Fork: this choice goes on where choice 0's prompt ended.
  void StartForked(uint64_t sequence_id);
  // No result of what was queued will come any more.
  void ForgetUnanswered();

  // Queues the next chunk, at most max_rows > 0 of the known tokens, and describes it. It ends
  // where an eviction is due. State kChunks.
  uint32_t NextChunkRows(uint32_t max_rows) const;
  WorkPlan QueueChunk(uint32_t num_rows, v1::SequenceWork& work);
  // Queues the token that the sequence's last Step samples. State kDecode.
  WorkPlan QueueDecode(v1::SequenceWork& work);
  // Choice 0's prompt is queued and samples this choice's first token too. State kJoined.
  void JoinSample();

  // Finished, it may stay on the workers for the next request of its session: they hold a row for
  // each token but the last, and nothing else is under way.
  bool CanBeContinued() const;
  // Prompt and delivered tokens.
  std::vector<int32_t> DeliveredText() const;

  // A queued sample or score has come back.
  void OnSampled(int32_t token);
  // Returns whether the token at `position` is the next that wants a score, and counts it then.
  bool OnScored(uint32_t position);
  void OnScoresAnswered() { --num_unanswered_; }

  // The prompt's end is queued and its eviction is not: its budgets wait for curves, or the prompt
  // is read again. Nothing else is fed until it is.
  bool eviction_due() const { return eviction_due_; }
  void set_eviction_due(bool is_due) { eviction_due_ = is_due; }
  // Prompt tokens that are still to be read again before the eviction that is due.
  uint32_t num_to_read() const;
  // Queues the next of them, at most max_rows; leaves the sequence's id out: a finished parent of
  // forks has none any more.
  void QueueReading(uint32_t max_rows, v1::SequenceReading& reading);

  // In which of the micro-batches that fill the pipeline's stages the sequence decodes.
  uint32_t micro_batch() const { return micro_batch_; }
  void set_micro_batch(uint32_t micro_batch) { micro_batch_ = micro_batch; }

 private:
  bool WantsMoreTokens() const;
  // Whether the token at num_rows() is fed as a prompt's, and where tokens of this kind, or their
  // prompt, end.
  struct Role {
    bool is_prompt = false;
    uint32_t end = 0;
  };
  Role NextRole() const;
  uint32_t score_end() const;
  int32_t TokenAt(uint32_t position) const;
  void PlanScores(uint32_t begin, uint32_t end, v1::SequenceWork& work, WorkPlan& plan) const;

  RequestState& request_;
  const uint32_t choice_;
  State state_;
  std::vector<int32_t> generated_;  // or forced
  uint32_t num_delivered_ = 0;
  uint32_t next_scored_;  // position of the next token whose score the client wants
  uint64_t sequence_id_ = 0;
  uint32_t num_rows_ = 0;
  uint32_t num_chunk_rows_ = 0;  // fed in chunks since Start
  uint32_t num_pending_ = 0;     // samples queued whose tokens are unknown
  uint32_t num_unanswered_ = 0;  // samples and scores queued
  uint32_t micro_batch_ = 0;
  uint32_t num_starts_ = 0;
  bool eviction_due_ = false;
  uint32_t num_read_again_ = 0;  // since Start
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_SEQUENCE_H_
