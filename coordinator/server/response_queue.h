#ifndef KVEC_COORDINATOR_SERVER_RESPONSE_QUEUE_H_
#define KVEC_COORDINATOR_SERVER_RESPONSE_QUEUE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "coordinator/scheduler/request.h"
#include "coordinator/text/incremental_detokenizer.h"
#include "coordinator/text/stop_matcher.h"
#include "coordinator/text/tokenizer.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// Turns what the scheduler reports of one request into the messages of its stream: text, stop
// strings, and what belongs into the first and last message. While messages wait for a slow client,
// a choice's tokens are added to its last waiting message, so the queue stays small. Not
// thread-safe: GenerateCall's lock.
class ResponseQueue {
 public:
  // `tokenizer` must outlive it. `request` is the checked form of `original`.
  ResponseQueue(const text::Tokenizer& tokenizer, const v1::GenerateRequest& original,
                const scheduler::Request& request);

  void AddPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs);
  // kStop when the token completes a stop string. `logprobs` may be null.
  scheduler::Verdict AddToken(uint32_t choice, int32_t token, const v1::TokenLogProbs* logprobs);
  void FinishChoice(uint32_t choice, v1::FinishReason reason);
  // After the last choice has finished.
  void AddUsage(const v1::Usage& usage);

  // The next message to send, or nothing.
  std::optional<v1::GenerateResponse> Pop();

 private:
  struct Message {
    v1::GenerateResponse response;
    size_t approximate_bytes = 0;
  };

  struct Choice {
    text::IncrementalDetokenizer detokenizer;
    text::StopMatcher stop_matcher;
    std::optional<int32_t> stop_token;  // that ended it
    Message* waiting = nullptr;         // its last message, while in queue_
  };

  // The choice's waiting message, or a new one when there is none or it is large.
  Message& MessageOf(uint32_t choice);
  bool IsStopToken(int32_t token) const;
  // What the token adds to the choice's text.
  std::string Detokenize(Choice& choice, int32_t token) const;

  const text::Tokenizer& tokenizer_;
  const std::vector<int32_t> stop_token_ids_;  // sorted; empty when tokens are forced
  std::optional<v1::GenerateResponse> head_;   // fields of choice 0's first message, until then
  std::vector<Choice> choices_;
  std::deque<Message> queue_;  // keeps addresses when messages come and go
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_RESPONSE_QUEUE_H_
