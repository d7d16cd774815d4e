#ifndef KVEC_KERNELS_CPU_SAMPLER_H_
#define KVEC_KERNELS_CPU_SAMPLER_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/sampling.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// One token per request out of logits[m, vocab]; see kernels/sampling.h for the order of steps.
// top_p keeps the smallest set of the most probable tokens that reaches it, among those that top_k
// left; min_p is relative to the most probable.
//
// A draw takes Philox4x32-10's number for (seed, choice, position) and walks the cumulative sum of
// the kept tokens: in order of their ids, or by falling probability where top_k or top_p is on.
//
// INTERNAL, naming the row, for logits that are no numbers; INVALID_ARGUMENT, naming field and
// value, for a request that makes no sense. results[i] belongs to requests[i].
absl::Status Sample(ThreadPool& pool, Tensor logits, absl::Span<const SampleRequest> requests,
                    absl::Span<SampleResult> results);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_SAMPLER_H_
