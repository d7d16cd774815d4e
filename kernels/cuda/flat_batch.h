#ifndef KVEC_KERNELS_CUDA_FLAT_BATCH_H_
#define KVEC_KERNELS_CUDA_FLAT_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cuda/batch_rows.h"
#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// An AttentionBatch with its page tables as one array of words, to be copied to the device at once.
class FlatBatch {
 public:
  // The batch fits together: see CheckAttentionBatch.
  explicit FlatBatch(const AttentionBatch& batch);

  absl::Span<const int32_t> words() const { return words_; }

  // The batch, once its words lie at `device_words`.
  PagedBatch View(const int32_t* device_words) const;

 private:
  void AddPages(const AttentionSequence& sequence);

  // Appends an array to the words; returns where it begins.
  template <typename T>
  size_t Append(const std::vector<T>& array);

  std::vector<HeadTable> tables_;
  const BatchRows rows_;
  const int max_decode_entries_;
  std::vector<int32_t> words_;  // the page ids come first
  size_t tables_begin_ = 0;
  size_t rows_begin_ = 0;
  size_t decode_rows_begin_ = 0;
  size_t tiles_begin_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_FLAT_BATCH_H_
