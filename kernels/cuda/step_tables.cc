#include "kernels/cuda/step_tables.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "common/status_macros.h"
#include "kernels/cuda/batch_rows.h"
#include "kernels/cuda/decode_attention.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kFirstWords = size_t{16} << 10;

}  // namespace

template <typename T>
size_t StepTables::Append(absl::Span<const T> array) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(int32_t) == 0);
  if (alignof(T) > sizeof(int32_t)) words_.resize((words_.size() + 1) / 2 * 2);
  const size_t begin = words_.size();
  words_.resize(begin + array.size() * (sizeof(T) / sizeof(int32_t)));
  if (!array.empty()) std::memcpy(&words_[begin], array.data(), array.size() * sizeof(T));
  return begin;
}

absl::Status StepTables::AppendTables(const StepBatch& step) {
  std::vector<HeadTable> tables;
  for (size_t sequence = 0; sequence < num_sequences_; ++sequence) {
    for (const AttentionBatch& layer : step.layers) {
      for (const HeadPages& head : layer.sequences[sequence].heads) {
        const int num_pages = (head.num_entries + kPageTokens - 1) / kPageTokens;
        std::unique_ptr<ResidentTable>& resident =
            head.resident == nullptr ? own_tables_.emplace_back() : *head.resident;
        KVEC_ASSIGN_OR_RETURN(const int32_t first_page,
                              pool_.Update({head.pages, static_cast<size_t>(num_pages)}, resident));
        tables.push_back({first_page, head.num_entries});
      }
    }
  }
  tables_begin_ = Append(absl::MakeConstSpan(tables));
  return pool_.Flush();
}

void StepTables::AppendRows(const StepBatch& step) {
  BatchRows rows(step.layers[0].sequences, num_layers_);
  is_decode_ = rows.decode_rows.size() == rows.rows.size();
  std::vector<int32_t> positions(step.positions.begin(), step.positions.end());
  const auto num_rows = static_cast<size_t>(step.num_tensor_rows);
  if (is_decode_ && rows.rows.size() < num_rows) {
    rows.rows.resize(num_rows, {.row = -1, .sequence = 0, .num_after = 0});
    positions.resize(num_rows);
  }
  std::vector<KeptRow> kept_rows(step.kept_rows.begin(), step.kept_rows.end());
  if (is_decode_ && !kept_rows.empty() && kept_rows.size() < rows.rows.size()) {
    kept_rows.resize(rows.rows.size(), {.row = -1});
  }
  num_positions_ = static_cast<int>(positions.size());
  num_kept_rows_ = static_cast<int>(kept_rows.size());
  words_.clear();
  rows_begin_ = Append(absl::MakeConstSpan(rows.rows));
  decode_rows_begin_ = is_decode_ ? rows_begin_ : Append(absl::MakeConstSpan(rows.decode_rows));
  tiles_begin_ = Append(absl::MakeConstSpan(rows.prefill_tiles));
  positions_begin_ = Append(absl::MakeConstSpan(positions));
  kept_rows_begin_ = Append(absl::MakeConstSpan(kept_rows));
  batch_ = {};
  batch_.num_rows = static_cast<int>(rows.rows.size());
  batch_.num_decode_rows = is_decode_ ? batch_.num_rows : static_cast<int>(rows.decode_rows.size());
  batch_.num_prefill_tiles = static_cast<int>(rows.prefill_tiles.size());
}

absl::Status StepTables::Prepare(const StepBatch& step) {
  KVEC_RETURN_IF_ERROR(pool_.Flush());  // what an earlier call that failed has left
  own_tables_.clear();
  num_layers_ = static_cast<int>(step.layers.size());
  const absl::Span<const AttentionSequence> sequences = step.layers[0].sequences;
  num_sequences_ = sequences.size();
  num_kv_heads_ = sequences.empty() ? 0 : static_cast<int>(sequences[0].heads.size());
  AppendRows(step);
  KVEC_RETURN_IF_ERROR(AppendTables(step));
  max_decode_entries_.clear();
  for (const AttentionBatch& layer : step.layers) {
    max_decode_entries_.push_back(MaxDecodeEntries(layer.sequences));
  }
  const int most = *std::max_element(max_decode_entries_.begin(), max_decode_entries_.end());
  batch_.max_decode_entries = kDecodeSplitEntries;
  while (batch_.max_decode_entries < most) batch_.max_decode_entries *= 2;

  if (words_.size() > buffer_words_) buffer_words_ = std::max(kFirstWords, 2 * words_.size());
  KVEC_ASSIGN_OR_RETURN(int32_t* const device_words, buffer_.Reserve<int32_t>(buffer_words_));
  KVEC_RETURN_IF_ERROR(uploader_.UploadTo(absl::MakeConstSpan(words_), device_words));
  num_uploaded_words_ += static_cast<int64_t>(words_.size());
  device_words_ = device_words;
  return absl::OkStatus();
}

PagedBatch StepTables::Layer(int index) const {
  PagedBatch batch = batch_;
  batch.page_ids = pool_.page_ids();
  batch.tables = Words<HeadTable>(tables_begin_) + index * num_kv_heads_;
  batch.rows = Words<BatchRow>(rows_begin_);
  batch.decode_rows = Words<BatchRow>(decode_rows_begin_);
  batch.prefill_tiles = Words<RowTile>(tiles_begin_);
  if (!is_decode_) batch.max_decode_entries = max_decode_entries_[static_cast<size_t>(index)];
  return batch;
}

}  // namespace kvec::kernels::cuda
