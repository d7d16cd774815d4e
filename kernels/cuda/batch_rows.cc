#include "kernels/cuda/batch_rows.h"

#include <algorithm>

namespace kvec::kernels::cuda {

BatchRows::BatchRows(absl::Span<const AttentionSequence> sequences, int table_stride) {
  int table = 0;
  for (const AttentionSequence& sequence : sequences) {
    for (int row = 0; row < sequence.num_rows; ++row) {
      const BatchRow batch_row{sequence.row_begin + row, table, sequence.num_rows - 1 - row};
      rows.push_back(batch_row);
      if (!sequence.is_prompt) {
        decode_rows.push_back(batch_row);
      } else if (row % kTileRows == 0) {
        prefill_tiles.push_back({batch_row, std::min(kTileRows, sequence.num_rows - row)});
      }
    }
    table += table_stride;
  }
}

int MaxDecodeEntries(absl::Span<const AttentionSequence> sequences) {
  int max_entries = 0;
  for (const AttentionSequence& sequence : sequences) {
    if (sequence.is_prompt) continue;
    for (const HeadPages& head : sequence.heads) {
      max_entries = std::max(max_entries, head.num_entries);
    }
  }
  return max_entries;
}

}  // namespace kvec::kernels::cuda
