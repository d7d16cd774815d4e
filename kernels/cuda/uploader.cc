#include "kernels/cuda/uploader.h"

#include <algorithm>
#include <cstring>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kFirstCapacity = size_t{4} << 20;
constexpr size_t kAlignment = 64;

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Uploader::~Uploader() {
  (void)cudaStreamSynchronize(stream_);
  (void)cudaFreeHost(pinned_);
}

absl::Status Uploader::Reserve(size_t bytes) { return MakeRoom(bytes + kMaxArrays * kAlignment); }

absl::Status Uploader::MakeRoom(size_t bytes) {
  if (used_ + bytes <= capacity_) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_), "upload"));
  used_before_ += used_;
  used_ = 0;
  return bytes <= capacity_ ? absl::OkStatus() : Allocate(std::max(kFirstCapacity, 2 * bytes));
}

absl::Status Uploader::Reset() {
  const size_t needed = used_before_ + used_;
  used_before_ = 0;
  used_ = 0;
  return needed <= capacity_ ? absl::OkStatus() : Allocate(2 * needed);
}

absl::Status Uploader::Allocate(size_t capacity) {
  capacity_ = 0;
  KVEC_RETURN_IF_ERROR(ToStatus(cudaFreeHost(pinned_), "upload"));
  pinned_ = nullptr;
  device_.reset();
  KVEC_ASSIGN_OR_RETURN(device_, CudaBuffer::Allocate(capacity));
  void* pinned = nullptr;
  KVEC_RETURN_IF_ERROR(ToStatus(cudaMallocHost(&pinned, capacity), "allocating pinned memory"));
  pinned_ = static_cast<uint8_t*>(pinned);
  capacity_ = capacity;
  return absl::OkStatus();
}

absl::StatusOr<const uint8_t*> Uploader::UploadBytes(absl::Span<const uint8_t> bytes) {
  if (bytes.empty()) return nullptr;
  KVEC_RETURN_IF_ERROR(MakeRoom(Aligned(bytes.size())));
  uint8_t* const copy = static_cast<uint8_t*>(device_->data()) + used_;
  KVEC_RETURN_IF_ERROR(UploadBytesTo(bytes, copy));
  return copy;
}

absl::StatusOr<const uint8_t*> Uploader::Pin(absl::Span<const uint8_t> bytes) {
  KVEC_RETURN_IF_ERROR(MakeRoom(Aligned(bytes.size())));
  uint8_t* const pinned = pinned_ + used_;
  std::memcpy(pinned, bytes.data(), bytes.size());
  used_ += Aligned(bytes.size());
  return pinned;
}

absl::Status Uploader::UploadBytesTo(absl::Span<const uint8_t> bytes, void* device) {
  if (bytes.empty()) return absl::OkStatus();
  KVEC_ASSIGN_OR_RETURN(const uint8_t* const pinned, Pin(bytes));
  return ToStatus(cudaMemcpyAsync(device, pinned, bytes.size(), cudaMemcpyHostToDevice, stream_),
                  "upload");
}

absl::Status Uploader::UploadRowsTo(absl::Span<const float> rows, Tensor to) {
  const size_t row_bytes = static_cast<size_t>(to.cols) * sizeof(float);
  KVEC_ASSIGN_OR_RETURN(const uint8_t* const pinned,
                        Pin({reinterpret_cast<const uint8_t*>(rows.data()),
                             static_cast<size_t>(to.rows) * row_bytes}));
  return ToStatus(
      cudaMemcpy2DAsync(to.data, static_cast<size_t>(to.stride) * sizeof(float), pinned, row_bytes,
                        row_bytes, static_cast<size_t>(to.rows), cudaMemcpyHostToDevice, stream_),
      "upload");
}

}  // namespace kvec::kernels::cuda
