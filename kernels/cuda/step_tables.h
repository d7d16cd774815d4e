#ifndef KVEC_KERNELS_CUDA_STEP_TABLES_H_
#define KVEC_KERNELS_CUDA_STEP_TABLES_H_

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "kernels/attention_batch.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/kv_pages.h"
#include "kernels/cuda/table_pool.h"
#include "kernels/cuda/uploader.h"

namespace kvec::kernels::cuda {

// What attention needs of a Step in the GPU's memory, for all layers: one array of words, uploaded
// at once, and the page tables, which are there already but for what is new.
class StepTables {
 public:
  // Both outlive the tables.
  StepTables(cudaStream_t stream, Uploader& uploader)
      : uploader_(uploader), pool_(stream, uploader) {}

  // RESOURCE_EXHAUSTED when the memory is not there.
  //
  // Where all rows are generated tokens, where what lies depends on the number of tensor rows and
  // on whether any row is kept, and max_decode_entries is one of few numbers: kernels that were
  // recorded with one Step do for others.
  absl::Status Prepare(const StepBatch& step);

  // Of the last Step: whether it has such a layer.
  bool Has(const AttentionBatch& batch) const {
    return batch.prepared_index >= 0 && batch.prepared_index < num_layers_ &&
           batch.sequences.size() == num_sequences_;
  }
  PagedBatch Layer(int index) const;
  // Of all layers, of a Step of generated tokens.
  int max_decode_entries() const { return batch_.max_decode_entries; }
  // To what other devices have for the same Step, if that is more.
  void RaiseMaxDecodeEntries(int max_entries) {
    batch_.max_decode_entries = std::max(batch_.max_decode_entries, max_entries);
  }
  int num_layers() const { return num_layers_; }
  // Padding included; 0: none are kept.
  int num_kept_rows() const { return num_kept_rows_; }
  const KeptRow* kept_rows() const { return Words<KeptRow>(kept_rows_begin_); }
  int num_positions() const { return num_positions_; }  // padding included
  const int32_t* positions() const { return Words<int32_t>(positions_begin_); }

  const TablePool& pool() const { return pool_; }
  int64_t num_uploaded_words() const { return num_uploaded_words_; }  // ever, page ids aside

 private:
  void AppendRows(const StepBatch& step);
  // Appends an array to the words; returns where it begins.
  template <typename T>
  size_t Append(absl::Span<const T> array);
  // [sequences][layers][KV heads]
  absl::Status AppendTables(const StepBatch& step);
  template <typename T>
  const T* Words(size_t begin) const {
    return reinterpret_cast<const T*>(device_words_ + begin);
  }

  Uploader& uploader_;
  TablePool pool_;
  std::vector<std::unique_ptr<ResidentTable>> own_tables_;  // of heads that keep none
  CudaScratch buffer_;
  size_t buffer_words_ = 0;
  int64_t num_uploaded_words_ = 0;

  // The last Step.
  std::vector<int32_t> words_;
  const int32_t* device_words_ = nullptr;
  int num_layers_ = 0;
  int num_kv_heads_ = 0;
  bool is_decode_ = false;  // all rows are generated tokens
  size_t num_sequences_ = 0;
  PagedBatch batch_;  // what the layers have in common, without pointers
  size_t rows_begin_ = 0;
  size_t decode_rows_begin_ = 0;
  size_t tiles_begin_ = 0;
  int num_positions_ = 0;
  size_t positions_begin_ = 0;
  int num_kept_rows_ = 0;
  size_t kept_rows_begin_ = 0;
  size_t tables_begin_ = 0;
  std::vector<int> max_decode_entries_;  // [layers]
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_STEP_TABLES_H_
