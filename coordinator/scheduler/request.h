#ifndef KVEC_COORDINATOR_SCHEDULER_REQUEST_H_
#define KVEC_COORDINATOR_SCHEDULER_REQUEST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kvec/v1/cluster.pb.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

enum class Verdict { kContinue, kStop };

// Receives what a request produces. The scheduler calls it with its lock held, from whichever
// thread calls the scheduler: it must not block and must not call the scheduler.
class RequestSink {
 public:
  virtual ~RequestSink() = default;

  // Log-probabilities of prompt tokens 1 …, in order, in one or more calls before the first token.
  virtual void OnPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) = 0;

  // A token was sampled (or forced). kStop ends the choice with reason STOP: a stop string matched.
  // logprobs is null when the request asked for none and the token is not a forced one.
  virtual Verdict OnToken(uint32_t choice, int32_t token, const v1::TokenLogProbs* logprobs) = 0;

  // The choice has ended; for STOP by a stop token, that token was OnToken's last.
  virtual void OnChoiceFinished(uint32_t choice, v1::FinishReason reason) = 0;

  // Exactly once, last: all choices have finished, or the request failed or was cancelled. Usage
  // has the numbers that the scheduler knows.
  virtual void OnDone(const absl::Status& status, const v1::Usage& usage) = 0;
};

// A checked request: ids in range, sampling values valid, defaults filled in.
struct Request {
  std::string id;
  std::string trace_id;         // W3C; for logs
  std::vector<int32_t> prompt;  // not empty, shorter than the context
  uint32_t num_choices = 1;
  v1::StepSampling sampling;  // choice is set per choice by the scheduler
  std::vector<int32_t>
      stop_token_ids;       // end a choice; empty with ignore_eos and no ids of the user's
  uint32_t max_tokens = 0;  // > 0; prompt + max_tokens <= context length
  // Fed instead of sampled ones; then num_choices is 1, and max_tokens and stop_token_ids don't
  // count.
  std::vector<int32_t> forced_tokens;
  v1::CachePolicy cache;  // resolved
  // Not empty: the request continues the session, and leaves its cache to the next one. Then
  // num_choices is 1, and `prompt` is what comes after the session's tokens.
  std::string session_id;
  // Whether the session must be there already (NOT_FOUND), or must not (ABORTED): `prompt` was
  // encoded for one of the two.
  bool is_follow_up = false;
  // Of a follow-up: bounds all tokens of the session, the prompt's and max_tokens included.
  uint32_t context_length = 0;
  bool fills_context = false;  // max_tokens is to be what the context has room for
  bool report_kept_tokens = false;
  int32_t priority = 0;
  absl::Time deadline = absl::InfiniteFuture();
  std::shared_ptr<RequestSink> sink;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REQUEST_H_
