#ifndef KVEC_KERNELS_CUDA_BATCH_ROWS_H_
#define KVEC_KERNELS_CUDA_BATCH_ROWS_H_

#include <vector>

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// The rows of a batch as kernels go through them.
struct BatchRows {
  // Of the sequences' tables each begins `table_stride` behind the one before.
  BatchRows(absl::Span<const AttentionSequence> sequences, int table_stride);

  std::vector<BatchRow> rows;
  std::vector<BatchRow> decode_rows;
  std::vector<RowTile> prefill_tiles;
};

// The most entries that a head has of a sequence with generated tokens.
int MaxDecodeEntries(absl::Span<const AttentionSequence> sequences);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_BATCH_ROWS_H_
