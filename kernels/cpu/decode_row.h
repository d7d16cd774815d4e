#ifndef KVEC_KERNELS_CPU_DECODE_ROW_H_
#define KVEC_KERNELS_CPU_DECODE_ROW_H_

#include <cstddef>

#include "kernels/attention_batch.h"
#include "kernels/attention_checks.h"

namespace kvec::kernels::cpu {

// The softmax over one split of a row's entries, for one query head, as floats:
//     weighted sum of values [PaddedDims], maximum score, sum of weights.
inline size_t PaddedDims(int head_dim) { return (static_cast<size_t>(head_dim) + 15) / 16 * 16; }
inline size_t PartialStride(int head_dim) { return PaddedDims(head_dim) + 16; }

// One row of a sequence and the query heads of one KV head.
struct DecodeRow {
  const AttentionSequence* sequence;
  int row;
  int kv_head;
  QueryGroup group;
  int num_splits;
  size_t partials;  // where its [num_splits][group.count] partials begin, in floats

  const HeadPages& head() const { return sequence->heads[static_cast<size_t>(kv_head)]; }
};

// Some entries of a row, not none: what one thread does at a time.
struct DecodeSplit {
  size_t row;  // among the DecodeRows
  VisibleEntries entries;
  size_t partials;  // where its [group.count] partials begin, in floats
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_DECODE_ROW_H_
