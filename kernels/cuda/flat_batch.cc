#include "kernels/cuda/flat_batch.h"

#include <cstring>
#include <type_traits>

namespace kvec::kernels::cuda {

FlatBatch::FlatBatch(const AttentionBatch& batch)
    : rows_(batch.sequences, 1), max_decode_entries_(MaxDecodeEntries(batch.sequences)) {
  for (const AttentionSequence& sequence : batch.sequences) AddPages(sequence);
  tables_begin_ = Append(tables_);
  rows_begin_ = Append(rows_.rows);
  decode_rows_begin_ = Append(rows_.decode_rows);
  tiles_begin_ = Append(rows_.prefill_tiles);
}

void FlatBatch::AddPages(const AttentionSequence& sequence) {
  for (const HeadPages& head : sequence.heads) {
    tables_.push_back({static_cast<int32_t>(words_.size()), head.num_entries});
    const int num_pages = (head.num_entries + kPageTokens - 1) / kPageTokens;
    words_.insert(words_.end(), head.pages, head.pages + num_pages);
  }
}

template <typename T>
size_t FlatBatch::Append(const std::vector<T>& array) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(int32_t) == 0);
  const size_t begin = words_.size();
  words_.resize(begin + array.size() * (sizeof(T) / sizeof(int32_t)));
  if (!array.empty()) std::memcpy(&words_[begin], array.data(), array.size() * sizeof(T));
  return begin;
}

PagedBatch FlatBatch::View(const int32_t* device_words) const {
  return {.page_ids = device_words,
          .tables = reinterpret_cast<const HeadTable*>(device_words + tables_begin_),
          .rows = reinterpret_cast<const BatchRow*>(device_words + rows_begin_),
          .num_rows = static_cast<int>(rows_.rows.size()),
          .decode_rows = reinterpret_cast<const BatchRow*>(device_words + decode_rows_begin_),
          .num_decode_rows = static_cast<int>(rows_.decode_rows.size()),
          .prefill_tiles = reinterpret_cast<const RowTile*>(device_words + tiles_begin_),
          .num_prefill_tiles = static_cast<int>(rows_.prefill_tiles.size()),
          .max_decode_entries = max_decode_entries_};
}

}  // namespace kvec::kernels::cuda
