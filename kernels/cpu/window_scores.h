#ifndef KVEC_KERNELS_CPU_WINDOW_SCORES_H_
#define KVEC_KERNELS_CPU_WINDOW_SCORES_H_

#include "absl/status/status.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"
#include "kernels/window_scores.h"

namespace kvec::kernels::cpu {

// Two passes over the keys: the softmax's maxima and sums first, then the probabilities, which are
// reduced as they arise. Nothing of the size queries × entries is kept.
absl::Status WindowScores(ThreadPool& pool, const HeadShape& shape,
                          const WindowScoreRequest& request, const CpuKvArena& arena);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_WINDOW_SCORES_H_
