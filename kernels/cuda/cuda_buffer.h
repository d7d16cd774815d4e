#ifndef KVEC_KERNELS_CUDA_CUDA_BUFFER_H_
#define KVEC_KERNELS_CUDA_CUDA_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// Memory of the GPU. Freeing it waits for all work that was queued.
class CudaBuffer : public DeviceMemory {
 public:
  ~CudaBuffer() override;
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  // RESOURCE_EXHAUSTED when the memory is not there. Contents are undefined.
  static absl::StatusOr<std::unique_ptr<CudaBuffer>> Allocate(size_t bytes);

  void* data() override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  CudaBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* const data_;
  const size_t bytes_;
};

// How often in this process memory that operations work in has moved: what was recorded before the
// last time names memory that may be gone.
int64_t NumBufferMoves();
void CountBufferMove();

// Room that operations work in, one after the other on one stream: it grows to the most that any of
// them has asked for.
class CudaScratch {
 public:
  // Valid until the next call. RESOURCE_EXHAUSTED when the memory is not there.
  template <typename T>
  absl::StatusOr<T*> Reserve(size_t count) {
    if (absl::Status status = Grow(count * sizeof(T)); !status.ok()) return status;
    return static_cast<T*>(buffer_->data());
  }

 private:
  absl::Status Grow(size_t bytes);

  std::unique_ptr<CudaBuffer> buffer_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_BUFFER_H_
