#ifndef KVEC_TESTS_COORDINATOR_SCHEDULER_RECORDING_SINK_H_
#define KVEC_TESTS_COORDINATOR_SCHEDULER_RECORDING_SINK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace kvec::coordinator::scheduler {

// Keeps what a request produces, and notes every breach of RequestSink's contract.
class RecordingSink : public RequestSink {
 public:
  struct Choice {
    std::vector<int32_t> tokens;
    std::vector<v1::TokenLogProbs> logprobs;
    std::optional<v1::FinishReason> reason;
  };

  // stop_after: tokens of a choice after which OnToken says kStop; 0: never.
  explicit RecordingSink(uint32_t stop_after = 0) : stop_after_(stop_after) {}

  void OnPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) override {
    if (done_.has_value() || !choices_.empty()) ++num_breaches_;
    prompt_logprobs_.insert(prompt_logprobs_.end(), logprobs.begin(), logprobs.end());
  }

  Verdict OnToken(uint32_t choice, int32_t token, const v1::TokenLogProbs* logprobs) override {
    Choice& at = choices_[choice];
    if (done_.has_value() || at.reason.has_value()) ++num_breaches_;
    at.tokens.push_back(token);
    if (logprobs != nullptr) at.logprobs.push_back(*logprobs);
    return at.tokens.size() == stop_after_ ? Verdict::kStop : Verdict::kContinue;
  }

  void OnChoiceFinished(uint32_t choice, v1::FinishReason reason) override {
    if (done_.has_value() || choices_[choice].reason.has_value()) ++num_breaches_;
    choices_[choice].reason = reason;
  }

  void OnDone(const absl::Status& status, const v1::Usage& usage) override {
    if (done_.has_value()) ++num_breaches_;
    done_ = status;
    usage_ = usage;
  }

  const std::map<uint32_t, Choice>& choices() const { return choices_; }
  const Choice& choice(uint32_t index) { return choices_[index]; }
  const std::vector<v1::TokenLogProbs>& prompt_logprobs() const { return prompt_logprobs_; }
  const std::optional<absl::Status>& done() const { return done_; }
  const v1::Usage& usage() const { return usage_; }
  uint32_t stop_after() const { return stop_after_; }
  int num_breaches() const { return num_breaches_; }

 private:
  const uint32_t stop_after_;
  std::map<uint32_t, Choice> choices_;
  std::vector<v1::TokenLogProbs> prompt_logprobs_;
  std::optional<absl::Status> done_;
  v1::Usage usage_;
  int num_breaches_ = 0;
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_TESTS_COORDINATOR_SCHEDULER_RECORDING_SINK_H_
