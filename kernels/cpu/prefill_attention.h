#ifndef KVEC_KERNELS_CPU_PREFILL_ATTENTION_H_
#define KVEC_KERNELS_CPU_PREFILL_ATTENTION_H_

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cpu/attention_inputs.h"
#include "kernels/cpu/thread_pool.h"

namespace kvec::kernels::cpu {

// Attention of the sequences whose rows are prompt tokens; the others are left alone.
//
// Blocks of rows (all query heads of a KV head) meet tiles of kPrefillTileKeys entries, anchored at
// entry 0: widened to float32 once per block, multiplied by register-blocked kernels, with the
// softmax taken along. A row's sums run over its entries in ascending order, tile by tile, and what
// it does not see adds exact zeros: so its bits depend neither on the chunk that it came in, nor on
// the rows beside it, nor on the number of threads.
void PrefillAttention(ThreadPool& pool, const AttentionInputs& inputs,
                      absl::Span<const AttentionSequence> sequences);

inline constexpr int kPrefillTileKeys = 128;

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_PREFILL_ATTENTION_H_
