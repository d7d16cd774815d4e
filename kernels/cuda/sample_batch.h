#ifndef KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_
#define KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cuda/sample.h"
#include "kernels/sampling.h"

namespace kvec::kernels::cuda {

// SampleRequests as the arrays that kernels read, and the way back.
class SampleBatch {
 public:
  // The requests are checked: see CheckSampleRequest.
  explicit SampleBatch(absl::Span<const SampleRequest> requests);

  absl::Span<const SampleTask> tasks() const { return tasks_; }
  absl::Span<const TokenCount> counts() const { return counts_; }
  absl::Span<const LogitBias> biases() const { return biases_; }
  absl::Span<const int32_t> banned() const { return banned_; }
  int max_logprobs() const { return max_logprobs_; }
  bool adjusts_logits() const { return !counts_.empty() || !biases_.empty() || !banned_.empty(); }
  // Of all arrays.
  size_t bytes() const;

  // outputs[tasks], top[tasks, max_logprobs], as the kernel wrote them. INTERNAL for logits that
  // are no numbers, INVALID_ARGUMENT when no token is left to choose; both name the row.
  absl::Status Finish(absl::Span<const SampleOutput> outputs, absl::Span<const ScoredToken> top,
                      absl::Span<SampleResult> results) const;

 private:
  std::vector<SampleTask> tasks_;
  std::vector<TokenCount> counts_;
  std::vector<LogitBias> biases_;
  std::vector<int32_t> banned_;
  int max_logprobs_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_
