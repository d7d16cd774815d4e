#ifndef KVEC_KERNELS_ATTENTION_BATCH_H_
#define KVEC_KERNELS_ATTENTION_BATCH_H_

#include <cstdint>
#include <memory>

#include "absl/types/span.h"

namespace kvec::kernels {

// A page table's copy in a device's memory, made, brought up to date and read by the device alone.
// It belongs to whoever owns the table: dropped when ids that were there have changed, or the table
// is no more; ids that are added at the end need nothing. The device outlives it.
class ResidentTable {
 public:
  virtual ~ResidentTable() = default;
};

// The cached entries of one (sequence, layer, KV head), in order of position; entry e lies in page
// pages[e / kPageTokens] at offset e % kPageTokens.
struct HeadPages {
  // [ceil(num_entries / kPageTokens)]; in a layer with a sliding window, pages that slid out are gone
  // and their ids are not read.
  const int32_t* pages = nullptr;
  int32_t num_entries = 0;  // the rows of this Step included
  // Where a device may keep its copy of the ids from Step to Step; null: nowhere.
  std::unique_ptr<ResidentTable>* resident = nullptr;
};

// The rows that one sequence has in a Step: a prompt chunk, or generated tokens.
struct AttentionSequence {
  int row_begin = 0;
  int num_rows = 0;
  // Generated tokens run through the decode arithmetic, prompt tokens through the prefill
  // arithmetic: a row's result then depends on its role and place only.
  bool is_prompt = false;
  absl::Span<const HeadPages> heads;  // [num_kv_heads]
};

// One layer's attention in a Step. Row r of a sequence sees the entries
// e <= num_entries - num_rows + r of its KV head; with a sliding window w only those with
// e > num_entries - num_rows + r - w.
struct AttentionBatch {
  absl::Span<const AttentionSequence> sequences;
  int sliding_window = 0;  // 0: none
  float scale = 1.0f;      // of q·k
  // Its place in the StepBatch that the device was told of last; -1: it was told of none.
  int prepared_index = -1;
};

// Where the queries of a row are kept: from `to` on in the first layer, layer_stride floats further
// in each layer after it.
struct KeptRow {
  int32_t row = 0;      // of the Step
  float* to = nullptr;  // in the device's memory
  int64_t layer_stride = 0;
};

// A Step's attention in all layers that a worker holds.
struct StepBatch {
  absl::Span<const AttentionBatch> layers;  // of the same rows
  absl::Span<const int32_t> positions;      // [rows]
  // Of the tensors that AppendKv and Attention will get, if more than there are positions: what lies
  // behind is neither stored nor attended with.
  int num_tensor_rows = 0;
  absl::Span<const KeptRow> kept_rows{};  // each row at most once
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_ATTENTION_BATCH_H_
