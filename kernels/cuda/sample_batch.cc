#include "kernels/cuda/sample_batch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/philox.h"

namespace kvec::kernels::cuda {
namespace {

bool HasPenalties(const SampleRequest& request) {
  return request.repetition_penalty != 1.0f || request.frequency_penalty != 0.0f ||
         request.presence_penalty != 0.0f;
}

}  // namespace

SampleBatch::SampleBatch(absl::Span<const SampleRequest> requests) {
  for (const SampleRequest& request : requests) {
    const absl::Span<const TokenCount> counts =
        HasPenalties(request) ? request.counts : absl::Span<const TokenCount>();
    tasks_.push_back({.row = request.row,
                      .temperature = request.temperature,
                      .top_k = request.top_k,
                      .top_p = request.top_p,
                      .min_p = request.min_p,
                      .repetition_penalty = request.repetition_penalty,
                      .frequency_penalty = request.frequency_penalty,
                      .presence_penalty = request.presence_penalty,
                      .first_count = static_cast<int32_t>(counts_.size()),
                      .num_counts = static_cast<int32_t>(counts.size()),
                      .first_bias = static_cast<int32_t>(biases_.size()),
                      .num_biases = static_cast<int32_t>(request.logit_bias.size()),
                      .first_banned = static_cast<int32_t>(banned_.size()),
                      .num_banned = static_cast<int32_t>(request.banned.size()),
                      .uniform = UniformDraw(request.seed, request.choice, request.position),
                      .num_logprobs = request.num_logprobs,
                      .given_token = request.given_token});
    counts_.insert(counts_.end(), counts.begin(), counts.end());
    for (const auto& [token, bias] : request.logit_bias) biases_.push_back({token, bias});
    banned_.insert(banned_.end(), request.banned.begin(), request.banned.end());
    max_logprobs_ = std::max(max_logprobs_, request.num_logprobs);
  }
}

size_t SampleBatch::bytes() const {
  return tasks_.size() * sizeof(SampleTask) + counts_.size() * sizeof(TokenCount) +
         biases_.size() * sizeof(LogitBias) + banned_.size() * sizeof(int32_t);
}

absl::Status SampleBatch::Finish(absl::Span<const SampleOutput> outputs,
                                 absl::Span<const ScoredToken> top,
                                 absl::Span<SampleResult> results) const {
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const SampleTask& task = tasks_[i];
    const SampleOutput& output = outputs[i];
    if (output.has_numbers == 0) {
      return absl::InternalError(
          absl::StrCat("logits of row ", task.row, ": one is NaN or infinite"));
    }
    if (output.token < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("row ", task.row, ": no token is left to choose"));
    }
    SampleResult result;
    result.token = output.token;
    result.log_prob = output.logit - output.log_sum;
    const auto own_top =
        top.subspan(i * static_cast<size_t>(max_logprobs_), static_cast<size_t>(output.num_top));
    for (const ScoredToken& token : own_top) {
      result.top.emplace_back(token.token, token.logit - output.log_sum);
    }
    // Falling; the kernel's ascending order of tokens stays among equal ones.
    std::stable_sort(result.top.begin(), result.top.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    results[i] = std::move(result);
  }
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cuda
