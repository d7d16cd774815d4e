#ifndef KVEC_KERNELS_CPU_ATTENTION_H_
#define KVEC_KERNELS_CPU_ATTENTION_H_

#include "absl/status/status.h"
#include "kernels/attention_batch.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// out[m, num_heads · head_dim]: every query of the batch over its KV head's pages, in which
// AppendKv has put the rows' own keys and values. Rows of no sequence are left alone. INTERNAL when
// batch, rows and arena do not fit together.
absl::Status Attention(ThreadPool& pool, Tensor qkv, const HeadShape& shape,
                       const AttentionBatch& batch, const CpuKvArena& arena, Tensor out);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ATTENTION_H_
