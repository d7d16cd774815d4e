#ifndef KVEC_KERNELS_CPU_INT8_DECODE_SPLIT_H_
#define KVEC_KERNELS_CPU_INT8_DECODE_SPLIT_H_

#include "kernels/attention_checks.h"
#include "kernels/cpu/attention_inputs.h"
#include "kernels/cpu/decode_row.h"

namespace kvec::kernels::cpu {

// partials[group.count][PartialStride] of some entries, at most kDecodeSplitEntries, of an int8
// arena: one task of DecodeAttention.
//
// Sums run over whole numbers. Queries are rounded to 16 bits once per row, and so are the softmax
// weights, times the scales of their values, once per split: errors of 2^-16 of the largest, where
// the arena's numbers have 2^-8.
void RunInt8DecodeSplit(const AttentionInputs& inputs, const DecodeRow& row,
                        VisibleEntries entries, float* partials);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_INT8_DECODE_SPLIT_H_
