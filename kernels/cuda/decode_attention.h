#ifndef KVEC_KERNELS_CUDA_DECODE_ATTENTION_H_
#define KVEC_KERNELS_CUDA_DECODE_ATTENTION_H_

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// Entries of a split.
inline constexpr int kDecodeSplitEntries = 256;

// out[m, num_heads · head_dim]: attention of the batch's generated tokens, of groups of up to 16
// query heads and heads of up to 256 numbers. A sequence is cut into splits at fixed entries, so
// that a row's bits depend on nothing but the row; the splits' results are merged in ascending
// order.
//
// `workspace` holds the splits of some rows at a time; fails with cudaErrorInvalidValue when it is
// too small for one.
cudaError_t DecodeAttention(cudaStream_t stream, const AttentionArguments& arguments,
                            ProductInput out, float* workspace, size_t workspace_floats);

// Of the workspace, for one row that sees num_entries.
size_t DecodeWorkspaceFloats(const HeadShape& shape, int num_entries);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_DECODE_ATTENTION_H_
