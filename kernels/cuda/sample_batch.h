#ifndef KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_
#define KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cuda/sample.h"
#include "kernels/sampling.h"

namespace kvec::kernels::cuda {

// SampleRequests as an array of words that kernels read, to be copied to the device at once, and
// the way back.
class SampleBatch {
 public:
  // Of num_tasks tasks, if more than there are requests. The requests are checked: see
  // CheckSampleRequest.
  SampleBatch(absl::Span<const SampleRequest> requests, int num_tasks);

  absl::Span<const int32_t> words() const { return words_; }

  // The batch, without its logits and results, once its words lie at `device_words`: alike of all
  // batches of as many tasks and log-probabilities.
  SampleArguments View(const int32_t* device_words) const;

  int num_tasks() const { return num_tasks_; }
  int max_logprobs() const { return max_logprobs_; }
  bool adjusts_logits() const { return adjusts_logits_; }

  // outputs[tasks], top[tasks, max_logprobs], as the kernel wrote them. INTERNAL for logits that
  // are no numbers, INVALID_ARGUMENT when no token is left to choose; both name the row.
  absl::Status Finish(absl::Span<const SampleOutput> outputs, absl::Span<const ScoredToken> top,
                      absl::Span<SampleResult> results) const;

 private:
  const int num_tasks_;
  std::vector<int32_t> rows_;   // of the requests
  std::vector<int32_t> words_;  // SampleTask[num_tasks], then their lists
  int max_logprobs_ = 0;
  bool adjusts_logits_ = false;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SAMPLE_BATCH_H_
