#ifndef KVEC_KERNELS_CUDA_TABLE_POOL_H_
#define KVEC_KERNELS_CUDA_TABLE_POOL_H_

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/cuda/buddy_allocator.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/uploader.h"
#include "kernels/cuda/write_tables.h"

namespace kvec::kernels::cuda {

// Page tables in the GPU's memory, where they stay from Step to Step: only new ids are uploaded.
// Each has a block of words with room to grow, which is free again when its ResidentTable is gone;
// work that was queued before still finds its ids there, as others' come over the same stream. The
// whole is as large as the most that was ever in use, at most twice over, and never shrinks.
class TablePool {
 public:
  // Both outlive the pool.
  TablePool(cudaStream_t stream, Uploader& uploader) : stream_(stream), uploader_(uploader) {}

  // Sees to it that the table is whole at the next Flush, and tells where it begins in page_ids().
  // RESOURCE_EXHAUSTED when the memory is not there.
  absl::StatusOr<int32_t> Update(absl::Span<const int32_t> ids,
                                 std::unique_ptr<ResidentTable>& resident);
  // Uploads what Updates have found to be new.
  absl::Status Flush();

  // Of all tables; another array after an Update that needed more room.
  const int32_t* page_ids() const {
    return buffer_ == nullptr ? nullptr : static_cast<const int32_t*>(buffer_->data());
  }

  int64_t num_uploaded_ids() const { return num_uploaded_ids_; }  // ever
  int64_t used_words() const { return allocator_.used(); }
  int64_t capacity_words() const { return allocator_.capacity(); }

 private:
  class Table;

  absl::StatusOr<std::unique_ptr<Table>> Allocate(size_t num_ids);
  absl::Status Grow();

  const cudaStream_t stream_;
  Uploader& uploader_;
  BuddyAllocator allocator_;
  std::unique_ptr<CudaBuffer> buffer_;  // int32[allocator_.capacity()]
  std::vector<TableWrite> writes_;      // since the last Flush
  std::vector<int32_t> new_ids_;        // of writes_
  int64_t num_uploaded_ids_ = 0;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_TABLE_POOL_H_
