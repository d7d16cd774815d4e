#ifndef KVEC_KERNELS_CPU_PREFILL_BLOCK_H_
#define KVEC_KERNELS_CPU_PREFILL_BLOCK_H_

#include "kernels/attention_batch.h"
#include "kernels/attention_checks.h"
#include "kernels/cpu/attention_inputs.h"

namespace kvec::kernels::cpu {

// Consecutive tokens of a prompt and the query heads of one KV head: what one thread does at a
// time. Rows are ordered by token, then by query head.
struct PrefillBlock {
  const AttentionSequence* sequence;
  int kv_head;
  QueryGroup group;
  int token_begin;  // rows of the sequence
  int num_tokens;

  const HeadPages& head() const { return sequence->heads[static_cast<size_t>(kv_head)]; }
  int num_rows() const { return num_tokens * group.count; }

  // What rows [begin, end) of the block see together; they are not empty.
  VisibleEntries Visible(int begin, int end, int sliding_window) const {
    const int first = token_begin + begin / group.count;
    const int last = token_begin + (end - 1) / group.count;
    return {VisibleTo(head(), sequence->num_rows, first, sliding_window).begin,
            VisibleTo(head(), sequence->num_rows, last, sliding_window).end};
  }
};

// The rows of a block that keep its operands in a core's second-level cache.
inline int MaxPrefillRows(int head_dim) { return head_dim <= 64 ? 192 : head_dim <= 128 ? 96 : 48; }

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_PREFILL_BLOCK_H_
