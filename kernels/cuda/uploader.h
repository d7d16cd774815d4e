#ifndef KVEC_KERNELS_CUDA_UPLOADER_H_
#define KVEC_KERNELS_CUDA_UPLOADER_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// Brings what kernels are told (page tables, positions, requests) to the GPU without waiting for
// it: through pinned memory, whose every byte has a place in the GPU's memory. Both are filled from
// begin to end, and anew after every Reset; when they are full before, the host waits for the
// stream once, and the next Reset makes them as large as was needed.
class Uploader {
 public:
  static constexpr size_t kMaxArrays = 8;

  // Uploads to `stream`, which outlives the uploader.
  explicit Uploader(cudaStream_t stream) : stream_(stream) {}
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // A copy in the GPU's memory, valid for work that is queued before the next Upload. Null for no
  // elements. RESOURCE_EXHAUSTED when the memory is not there.
  template <typename T>
  absl::StatusOr<const T*> Upload(absl::Span<const T> array) {
    static_assert(std::is_trivially_copyable_v<T>);
    auto copy =
        UploadBytes({reinterpret_cast<const uint8_t*>(array.data()), array.size() * sizeof(T)});
    if (!copy.ok()) return copy.status();
    return reinterpret_cast<const T*>(*copy);
  }

  // Copies to the GPU's memory at `device`.
  template <typename T>
  absl::Status UploadTo(absl::Span<const T> array, T* device) {
    static_assert(std::is_trivially_copyable_v<T>);
    return UploadBytesTo({reinterpret_cast<const uint8_t*>(array.data()), array.size() * sizeof(T)},
                         device);
  }

  // Copies rows[m, n], one behind the other, to a tensor of that shape.
  absl::Status UploadRowsTo(absl::Span<const float> rows, Tensor to);

  // The stream has come to its end: all memory is free again.
  absl::Status Reset();

  // The next up to kMaxArrays uploads of `bytes` in all: none makes an earlier one of them invalid.
  absl::Status Reserve(size_t bytes);

 private:
  absl::Status MakeRoom(size_t bytes);
  absl::Status Allocate(size_t capacity);
  absl::StatusOr<const uint8_t*> UploadBytes(absl::Span<const uint8_t> bytes);
  // In pinned memory, which `bytes` take.
  absl::StatusOr<const uint8_t*> Pin(absl::Span<const uint8_t> bytes);
  absl::Status UploadBytesTo(absl::Span<const uint8_t> bytes, void* device);

  const cudaStream_t stream_;
  uint8_t* pinned_ = nullptr;
  std::unique_ptr<CudaBuffer> device_;
  size_t capacity_ = 0;
  size_t used_ = 0;
  size_t used_before_ = 0;  // since the last Reset, before the memory was full
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_UPLOADER_H_
