#include "kernels/cuda/sample_batch.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/philox.h"

namespace kvec::kernels::cuda {
namespace {

bool HasPenalties(const SampleRequest& request) {
  return request.repetition_penalty != 1.0f || request.frequency_penalty != 0.0f ||
         request.presence_penalty != 0.0f;
}

template <typename T>
constexpr size_t kWords = sizeof(T) / sizeof(int32_t);

// Appends a list to the words; returns where it begins.
template <typename T>
int32_t Append(absl::Span<const T> list, std::vector<int32_t>& words) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(int32_t) == 0);
  const size_t begin = words.size();
  words.resize(begin + list.size() * kWords<T>);
  if (!list.empty()) std::memcpy(&words[begin], list.data(), list.size() * sizeof(T));
  return static_cast<int32_t>(begin);
}

}  // namespace

SampleBatch::SampleBatch(absl::Span<const SampleRequest> requests, int num_tasks)
    : num_tasks_(num_tasks) {
  std::vector<SampleTask> tasks;
  std::vector<int32_t> lists;
  for (const SampleRequest& request : requests) {
    const absl::Span<const TokenCount> counts =
        HasPenalties(request) ? request.counts : absl::Span<const TokenCount>();
    std::vector<LogitBias> biases;
    for (const auto& [token, bias] : request.logit_bias) biases.push_back({token, bias});
    tasks.push_back({.row = request.row,
                     .temperature = request.temperature,
                     .top_k = request.top_k,
                     .top_p = request.top_p,
                     .min_p = request.min_p,
                     .repetition_penalty = request.repetition_penalty,
                     .frequency_penalty = request.frequency_penalty,
                     .presence_penalty = request.presence_penalty,
                     .first_count = Append(counts, lists),
                     .num_counts = static_cast<int32_t>(counts.size()),
                     .first_bias = Append(absl::MakeConstSpan(biases), lists),
                     .num_biases = static_cast<int32_t>(biases.size()),
                     .first_banned = Append(request.banned, lists),
                     .num_banned = static_cast<int32_t>(request.banned.size()),
                     .uniform = UniformDraw(request.seed, request.choice, request.position),
                     .num_logprobs = request.num_logprobs,
                     .given_token = request.given_token});
    rows_.push_back(request.row);
    max_logprobs_ = std::max(max_logprobs_, request.num_logprobs);
  }
  SampleTask none = {};
  none.row = -1;
  tasks.resize(static_cast<size_t>(num_tasks), none);
  adjusts_logits_ = !lists.empty();
  Append(absl::MakeConstSpan(tasks), words_);
  words_.insert(words_.end(), lists.begin(), lists.end());
}

SampleArguments SampleBatch::View(const int32_t* device_words) const {
  SampleArguments arguments;
  arguments.tasks = reinterpret_cast<const SampleTask*>(device_words);
  arguments.num_tasks = num_tasks_;
  arguments.lists = device_words + static_cast<size_t>(num_tasks_) * kWords<SampleTask>;
  arguments.max_logprobs = max_logprobs_;
  return arguments;
}

absl::Status SampleBatch::Finish(absl::Span<const SampleOutput> outputs,
                                 absl::Span<const ScoredToken> top,
                                 absl::Span<SampleResult> results) const {
  for (size_t i = 0; i < rows_.size(); ++i) {
    const SampleOutput& output = outputs[i];
    if (output.has_numbers == 0) {
      return absl::InternalError(
          absl::StrCat("logits of row ", rows_[i], ": one is NaN or infinite"));
    }
    if (output.token < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("row ", rows_[i], ": no token is left to choose"));
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
