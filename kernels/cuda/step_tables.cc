#include "kernels/cuda/step_tables.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "common/status_macros.h"
#include "kernels/cuda/batch_rows.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kFirstWords = size_t{16} << 10;

}  // namespace

template <typename T>
size_t StepTables::Append(absl::Span<const T> array) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(int32_t) == 0);
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

absl::Status StepTables::Prepare(const StepBatch& step) {
  KVEC_RETURN_IF_ERROR(pool_.Flush());  // what an earlier call that failed has left
  own_tables_.clear();
  num_layers_ = static_cast<int>(step.layers.size());
  const absl::Span<const AttentionSequence> sequences = step.layers[0].sequences;
  num_sequences_ = sequences.size();
  num_kv_heads_ = sequences.empty() ? 0 : static_cast<int>(sequences[0].heads.size());
  max_decode_entries_.clear();
  for (const AttentionBatch& layer : step.layers) {
    max_decode_entries_.push_back(MaxDecodeEntries(layer.sequences));
  }

  words_.clear();
  const BatchRows rows(sequences, num_layers_);
  const size_t rows_begin = Append(absl::MakeConstSpan(rows.rows));
  const size_t decode_rows_begin = Append(absl::MakeConstSpan(rows.decode_rows));
  const size_t tiles_begin = Append(absl::MakeConstSpan(rows.prefill_tiles));
  positions_begin_ = Append(step.positions);
  KVEC_RETURN_IF_ERROR(AppendTables(step));

  if (words_.size() > buffer_words_) buffer_words_ = std::max(kFirstWords, 2 * words_.size());
  KVEC_ASSIGN_OR_RETURN(int32_t* const device_words, buffer_.Reserve<int32_t>(buffer_words_));
  KVEC_RETURN_IF_ERROR(uploader_.UploadTo(absl::MakeConstSpan(words_), device_words));
  num_uploaded_words_ += static_cast<int64_t>(words_.size());
  device_words_ = device_words;
  batch_ = {.page_ids = pool_.page_ids(),
            .rows = Words<BatchRow>(rows_begin),
            .num_rows = static_cast<int>(rows.rows.size()),
            .decode_rows = Words<BatchRow>(decode_rows_begin),
            .num_decode_rows = static_cast<int>(rows.decode_rows.size()),
            .prefill_tiles = Words<RowTile>(tiles_begin),
            .num_prefill_tiles = static_cast<int>(rows.prefill_tiles.size())};
  return absl::OkStatus();
}

PagedBatch StepTables::Layer(int index) const {
  PagedBatch batch = batch_;
  batch.tables = Words<HeadTable>(tables_begin_) + index * num_kv_heads_;
  batch.max_decode_entries = max_decode_entries_[static_cast<size_t>(index)];
  return batch;
}

}  // namespace kvec::kernels::cuda
