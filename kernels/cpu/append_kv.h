#ifndef KVEC_KERNELS_CPU_APPEND_KV_H_
#define KVEC_KERNELS_CPU_APPEND_KV_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// Stores k and v of all rows of the batch, with their tokens' positions[m], as the last entries of
// their heads' pages. INTERNAL when batch, rows and arena do not fit together.
absl::Status AppendKv(ThreadPool& pool, Tensor qkv, const HeadShape& shape,
                      absl::Span<const int32_t> positions, const AttentionBatch& batch,
                      CpuKvArena& arena);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_APPEND_KV_H_
