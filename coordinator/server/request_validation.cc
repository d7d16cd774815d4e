#include "coordinator/server/request_validation.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "coordinator/server/cache_policies.h"
#include "coordinator/server/prompt_encoding.h"
#include "coordinator/server/quoted.h"

namespace kvec::coordinator::server {
namespace {

constexpr size_t kMaxIdBytes = 128;
constexpr uint32_t kMaxChoices = 64;
constexpr uint32_t kMaxLogProbs = 20;
constexpr int kMaxStopStrings = 16;
constexpr size_t kMaxStopStringBytes = 1024;
constexpr int32_t kMaxPriority = 100;

// The interval between two values, with or without each end.
struct Range {
  float min;
  float max;
  bool min_included = true;
  bool max_included = true;

  // False for NaN.
  bool Contains(float value) const {
    return (min_included ? value >= min : value > min) &&
           (max_included ? value <= max : value < max);
  }
  std::string ToString() const {
    return absl::StrCat(min_included ? "[" : "(", min, ", ", max, max_included ? "]" : ")");
  }
};

absl::Status CheckRange(absl::string_view field, float value, const Range& range) {
  if (range.Contains(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": ", value, " is outside ", range.ToString()));
}

absl::Status CheckAtMost(absl::string_view field, uint64_t value, uint64_t max) {
  if (value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", value, " is above ", max));
}

absl::Status CheckId(absl::string_view field, const std::string& id) {
  KVEC_RETURN_IF_ERROR(CheckAtMost(absl::StrCat(field, ": length"), id.size(), kMaxIdBytes));
  // It stands in log lines.
  if (std::all_of(id.begin(), id.end(), absl::ascii_isgraph)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": ", Quoted(id), " has a character that is not printable ASCII"));
}

absl::StatusOr<std::string> ResolveRequestId(const std::string& id) {
  if (id.empty()) {
    absl::BitGen random;
    return absl::StrCat("r-", absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
  }
  KVEC_RETURN_IF_ERROR(CheckId("request_id", id));
  return id;
}

// What only some of the requests with a session_id may have.
absl::Status CheckSession(const v1::GenerateRequest& request, bool is_follow_up) {
  const std::string& id = request.session_id();
  if (id.empty()) {
    if (!request.continue_session()) return absl::OkStatus();
    return absl::InvalidArgumentError("continue_session: true, but session_id is empty");
  }
  KVEC_RETURN_IF_ERROR(CheckId("session_id", id));
  if (request.sampling().n() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.n: ", request.sampling().n(), ", must be 1 with a session_id"));
  }
  if (!is_follow_up) {
    if (!request.continue_session()) return absl::OkStatus();
    return absl::NotFoundError(absl::StrCat("session_id: there is no session ", Quoted(id)));
  }
  if (request.has_chat()) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat: session ", Quoted(id),
                     " has begun; what follows it is text or token_ids, without a chat template"));
  }
  if (request.cache().ByteSizeLong() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache: session ", Quoted(id), " has begun, and its policy goes on"));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::StepSampling> ResolveSampling(const v1::SamplingParameters& sampling,
                                                 const ServedModel& model) {
  v1::StepSampling step;
  step.set_temperature(sampling.has_temperature() ? sampling.temperature() : 1);
  step.set_top_p(sampling.has_top_p() ? sampling.top_p() : 1);
  step.set_min_p(sampling.min_p());
  step.set_repetition_penalty(sampling.has_repetition_penalty() ? sampling.repetition_penalty()
                                                                : 1);
  step.set_frequency_penalty(sampling.frequency_penalty());
  step.set_presence_penalty(sampling.presence_penalty());
  const std::pair<absl::string_view, std::pair<float, Range>> checks[] = {
      {"temperature", {step.temperature(), {0, 100}}},
      {"top_p", {step.top_p(), {0, 1, /*min_included=*/false}}},
      {"min_p", {step.min_p(), {0, 1, true, /*max_included=*/false}}},
      {"repetition_penalty", {step.repetition_penalty(), {0, 100, /*min_included=*/false}}},
      {"frequency_penalty", {step.frequency_penalty(), {-2, 2}}},
      {"presence_penalty", {step.presence_penalty(), {-2, 2}}},
  };
  for (const auto& [field, check] : checks) {
    KVEC_RETURN_IF_ERROR(CheckRange(absl::StrCat("sampling.", field), check.first, check.second));
  }
  // As many as there are is no restriction, so large values are as good as 0.
  const auto vocab_size = static_cast<uint32_t>(model.config.vocab_size);
  step.set_top_k(sampling.top_k() < vocab_size ? sampling.top_k() : 0);
  for (const auto& [id, bias] : sampling.logit_bias()) {
    if (id >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("sampling.logit_bias: token ", id,
                                                     " is outside the vocabulary of ", vocab_size,
                                                     " tokens"));
    }
    KVEC_RETURN_IF_ERROR(
        CheckRange(absl::StrCat("sampling.logit_bias[", id, "]"), bias, {-100, 100}));
    (*step.mutable_logit_bias())[id] = bias;
  }
  absl::BitGen random;
  step.set_seed(sampling.has_seed() ? sampling.seed() : absl::Uniform<uint64_t>(random));
  return step;
}

absl::Status ResolveLogProbs(const v1::GenerateRequest& request, v1::StepSampling* sampling) {
  sampling->set_logprobs(-1);
  sampling->set_prompt_logprobs(-1);
  if (request.has_logprobs()) {
    KVEC_RETURN_IF_ERROR(CheckAtMost("logprobs", request.logprobs(), kMaxLogProbs));
    sampling->set_logprobs(static_cast<int32_t>(request.logprobs()));
  }
  if (request.has_prompt_logprobs()) {
    KVEC_RETURN_IF_ERROR(CheckAtMost("prompt_logprobs", request.prompt_logprobs(), kMaxLogProbs));
    sampling->set_prompt_logprobs(static_cast<int32_t>(request.prompt_logprobs()));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ResolveNumChoices(const v1::GenerateRequest& request) {
  const uint32_t n = request.sampling().has_n() ? request.sampling().n() : 1;
  if (n < 1 || n > kMaxChoices) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.n: ", n, " is outside [1, ", kMaxChoices, "]"));
  }
  if (n > 1 && !request.forced_token_ids().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.n: ", n, ", forced_token_ids give one choice only"));
  }
  return n;
}

// Choices share the pages of their prompt, which an eviction of one of them would have to copy.
// A session keeps no queries for its next request's evictions.
absl::Status CheckDecodeEviction(const v1::CachePolicy& cache, uint32_t num_choices,
                                 absl::string_view session_id) {
  if (cache.decode_interval_tokens() == 0) return absl::OkStatus();
  if (!session_id.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("cache.decode_interval_tokens: ",
                                                   cache.decode_interval_tokens(),
                                                   ", must be 0 with a session_id"));
  }
  if (num_choices == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cache.decode_interval_tokens: ",
                                                 cache.decode_interval_tokens(),
                                                 ", must be 0 with sampling.n = ", num_choices));
}

absl::Status CheckStopStrings(const v1::StoppingCriteria& stopping) {
  if (stopping.stop_size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(absl::StrCat("stopping.stop: ", stopping.stop_size(),
                                                   " strings, at most ", kMaxStopStrings));
  }
  for (int i = 0; i < stopping.stop_size(); ++i) {
    const std::string field = absl::StrCat("stopping.stop[", i, "]");
    if (stopping.stop(i).empty()) return absl::InvalidArgumentError(absl::StrCat(field, ": empty"));
    KVEC_RETURN_IF_ERROR(
        CheckAtMost(absl::StrCat(field, ": length"), stopping.stop(i).size(), kMaxStopStringBytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> ResolveStopTokens(const v1::StoppingCriteria& stopping,
                                                       const ServedModel& model) {
  KVEC_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                        CheckTokenIds("stopping.stop_token_ids", stopping.stop_token_ids(), model));
  if (!stopping.ignore_eos()) {
    const absl::Span<const int32_t> eos_ids = model.tokenizer->eos_ids();
    ids.insert(ids.end(), eos_ids.begin(), eos_ids.end());
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// How many tokens may follow the prompt: what was asked for, or all that the context has room for.
absl::StatusOr<uint32_t> ResolveMaxTokens(const v1::GenerateRequest& request, size_t prompt_tokens,
                                          const ServedModel& model) {
  const auto context = static_cast<size_t>(model.config.context_length);
  if (prompt_tokens >= context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt: ", prompt_tokens, " tokens leave no room in the context of ", context));
  }
  const v1::StoppingCriteria& stopping = request.stopping();
  const auto forced_tokens = static_cast<size_t>(request.forced_token_ids_size());
  if (forced_tokens > 0) {
    if (stopping.has_max_tokens()) {
      return absl::InvalidArgumentError(
          absl::StrCat("stopping.max_tokens: ", stopping.max_tokens(),
                       ", forced_token_ids fix the number of tokens"));
    }
    if (prompt_tokens + forced_tokens > context) {
      return absl::InvalidArgumentError(absl::StrCat("forced_token_ids: ", forced_tokens,
                                                     " tokens after a prompt of ", prompt_tokens,
                                                     " exceed the context of ", context));
    }
    return static_cast<uint32_t>(forced_tokens);
  }
  if (!stopping.has_max_tokens()) return static_cast<uint32_t>(context - prompt_tokens);
  if (stopping.max_tokens() == 0) {
    return absl::InvalidArgumentError("stopping.max_tokens: 0, at least 1 is needed");
  }
  if (prompt_tokens + stopping.max_tokens() > context) {
    return absl::InvalidArgumentError(absl::StrCat("stopping.max_tokens: ", stopping.max_tokens(),
                                                   " after a prompt of ", prompt_tokens,
                                                   " tokens exceeds the context of ", context));
  }
  return stopping.max_tokens();
}

// Text in the middle of a conversation has no BOS, unless the client wants one there.
absl::StatusOr<std::vector<int32_t>> EncodeFollowUp(v1::GenerateRequest request,
                                                    const ServedModel& model) {
  if (!request.has_add_special_tokens()) request.set_add_special_tokens(false);
  return EncodePrompt(request, model);
}

absl::StatusOr<int32_t> ResolvePriority(int32_t priority) {
  if (priority >= -kMaxPriority && priority <= kMaxPriority) return priority;
  return absl::InvalidArgumentError(absl::StrCat("priority: ", priority, " is outside [",
                                                 -kMaxPriority, ", ", kMaxPriority, "]"));
}

}  // namespace

absl::StatusOr<scheduler::Request> ValidateRequest(const v1::GenerateRequest& request,
                                                   const ServedModel& model,
                                                   const v1::CachePolicy& default_cache,
                                                   bool is_follow_up) {
  KVEC_RETURN_IF_ERROR(CheckSession(request, is_follow_up));
  scheduler::Request checked;
  checked.session_id = request.session_id();
  checked.is_follow_up = is_follow_up;
  checked.context_length = static_cast<uint32_t>(model.config.context_length);
  checked.fills_context = !request.stopping().has_max_tokens() && request.forced_token_ids().empty();
  KVEC_ASSIGN_OR_RETURN(checked.id, ResolveRequestId(request.request_id()));
  KVEC_ASSIGN_OR_RETURN(checked.sampling, ResolveSampling(request.sampling(), model));
  KVEC_RETURN_IF_ERROR(ResolveLogProbs(request, &checked.sampling));
  KVEC_ASSIGN_OR_RETURN(checked.num_choices, ResolveNumChoices(request));
  KVEC_RETURN_IF_ERROR(CheckStopStrings(request.stopping()));
  KVEC_ASSIGN_OR_RETURN(checked.stop_token_ids, ResolveStopTokens(request.stopping(), model));
  KVEC_ASSIGN_OR_RETURN(checked.forced_tokens,
                        CheckTokenIds("forced_token_ids", request.forced_token_ids(), model));
  KVEC_ASSIGN_OR_RETURN(checked.cache, ResolveCachePolicy(request.cache(), default_cache));
  KVEC_RETURN_IF_ERROR(CheckDecodeEviction(checked.cache, checked.num_choices, request.session_id()));
  checked.report_kept_tokens = request.report_kept_tokens();
  KVEC_ASSIGN_OR_RETURN(checked.priority, ResolvePriority(request.priority()));
  // Last, because only this takes time that grows with the request.
  KVEC_ASSIGN_OR_RETURN(checked.prompt,
                        is_follow_up ? EncodeFollowUp(request, model) : EncodePrompt(request, model));
  KVEC_ASSIGN_OR_RETURN(checked.max_tokens,
                        ResolveMaxTokens(request, checked.prompt.size(), model));
  const uint32_t min_tokens = request.stopping().min_tokens();
  if (min_tokens > checked.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("stopping.min_tokens: ", min_tokens,
                                                   " is above the ", checked.max_tokens,
                                                   " tokens that may follow the prompt"));
  }
  checked.sampling.set_min_tokens(min_tokens);
  checked.sampling.mutable_stop_token_ids()->Assign(checked.stop_token_ids.begin(),
                                                    checked.stop_token_ids.end());
  return checked;
}

}  // namespace kvec::coordinator::server
