#ifndef KVEC_KERNELS_CPU_DECODE_ATTENTION_H_
#define KVEC_KERNELS_CPU_DECODE_ATTENTION_H_

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cpu/attention_inputs.h"
#include "kernels/cpu/thread_pool.h"

namespace kvec::kernels::cpu {

// Attention of the sequences whose rows are generated tokens; the others are left alone.
//
// A row's entries are cut into splits of kDecodeSplitEntries, anchored at entry 0, so that all
// threads share even a single sequence. Each split gives a partial softmax, and those are merged in
// ascending order: a row's bits depend on its own entries only.
void DecodeAttention(ThreadPool& pool, const AttentionInputs& inputs,
                     absl::Span<const AttentionSequence> sequences);

inline constexpr int kDecodeSplitEntries = 256;

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_DECODE_ATTENTION_H_
