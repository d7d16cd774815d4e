#ifndef KVEC_KERNELS_CPU_VALUE_NORMS_H_
#define KVEC_KERNELS_CPU_VALUE_NORMS_H_

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"

namespace kvec::kernels::cpu {

// norms[heads, stride]: ‖v‖₂ of every head's cached values, which are at most `stride`, in float32 of
// the values as stored.
void ValueNorms(ThreadPool& pool, absl::Span<const HeadPages> heads, int stride,
                const CpuKvArena& arena, float* norms);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_VALUE_NORMS_H_
