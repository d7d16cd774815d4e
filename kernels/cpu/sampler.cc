#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/logit_scan.h"
#include "kernels/sample_request_check.h"
#include "kernels/cpu/token_draw.h"

namespace kvec::kernels::cpu {
namespace {

bool AdjustsLogits(const SampleRequest& request) {
  const bool has_penalties = request.repetition_penalty != 1.0f ||
                             request.frequency_penalty != 0.0f || request.presence_penalty != 0.0f;
  return !request.banned.empty() || !request.logit_bias.empty() ||
         (has_penalties && !request.counts.empty());
}

// Bans, biases and penalties, in this order.
void AdjustLogits(const SampleRequest& request, absl::Span<float> logits) {
  for (int32_t token : request.banned) {
    logits[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
  }
  for (const auto& [token, bias] : request.logit_bias) logits[static_cast<size_t>(token)] += bias;
  for (const TokenCount& count : request.counts) {
    float& logit = logits[static_cast<size_t>(count.token)];
    if (count.in_prompt > 0 || count.generated > 0) {
      logit = logit > 0 ? logit / request.repetition_penalty : logit * request.repetition_penalty;
    }
    logit -= request.frequency_penalty * static_cast<float>(count.generated);
    if (count.generated > 0) logit -= request.presence_penalty;
  }
}

void FillLogProbs(const SampleRequest& request, absl::Span<const float> logits, float max,
                  SampleResult& result) {
  static thread_local std::vector<ScoredToken> top;
  const float log_sum = LogSumExp(logits, max);
  result.log_prob = logits[static_cast<size_t>(result.token)] - log_sum;
  CollectTop(logits, request.num_logprobs, top);
  for (const ScoredToken& token : top) result.top.emplace_back(token.token, token.score - log_sum);
}

absl::StatusOr<int32_t> ChooseToken(const SampleRequest& request, absl::Span<const float> logits,
                                    float max) {
  static thread_local std::vector<float> adjusted;
  if (AdjustsLogits(request)) {
    adjusted.assign(logits.begin(), logits.end());
    AdjustLogits(request, absl::MakeSpan(adjusted));
    logits = adjusted;
    max = MaxLogit(logits);
  }
  if (max == -std::numeric_limits<float>::infinity()) {
    return absl::InvalidArgumentError(
        absl::StrCat("row ", request.row, ": no token is left to choose"));
  }
  return request.temperature == 0 ? FirstToken(logits, max) : DrawToken(request, logits, max);
}

absl::Status SampleOne(Tensor logits, const SampleRequest& request, SampleResult& result) {
  KVEC_RETURN_IF_ERROR(CheckSampleRequest(request, logits.rows, logits.cols));
  const absl::Span<const float> row(logits.data + request.row * logits.stride,
                                    static_cast<size_t>(logits.cols));
  const float max = MaxLogit(row);
  if (std::isnan(max) || max == std::numeric_limits<float>::infinity()) {
    return absl::InternalError(
        absl::StrCat("logits of row ", request.row, ": the largest is ", max));
  }
  result = SampleResult();
  if (request.given_token >= 0) {
    result.token = request.given_token;
  } else {
    KVEC_ASSIGN_OR_RETURN(result.token, ChooseToken(request, row, max));
  }
  if (request.num_logprobs >= 0 || request.given_token >= 0) {
    FillLogProbs(request, row, max, result);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Sample(ThreadPool& pool, Tensor logits, absl::Span<const SampleRequest> requests,
                    absl::Span<SampleResult> results) {
  if (requests.size() != results.size()) {
    return absl::InternalError(
        absl::StrCat("sample: ", requests.size(), " requests, ", results.size(), " results"));
  }
  if (requests.empty()) return absl::OkStatus();
  std::vector<absl::Status> statuses(requests.size());
  pool.ParallelFor(static_cast<int>(requests.size()), [&](int task) {
    const size_t i = static_cast<size_t>(task);
    statuses[i] = SampleOne(logits, requests[i], results[i]);
  });
  for (absl::Status& status : statuses) KVEC_RETURN_IF_ERROR(std::move(status));
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
