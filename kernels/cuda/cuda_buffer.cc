#include "kernels/cuda/cuda_buffer.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {
namespace {

std::atomic<int64_t> num_buffer_moves = 0;

}  // namespace

int64_t NumBufferMoves() { return num_buffer_moves.load(std::memory_order_relaxed); }
void CountBufferMove() { num_buffer_moves.fetch_add(1, std::memory_order_relaxed); }

CudaBuffer::~CudaBuffer() { (void)cudaFree(data_); }

absl::StatusOr<std::unique_ptr<CudaBuffer>> CudaBuffer::Allocate(size_t bytes) {
  void* data = nullptr;
  KVEC_RETURN_IF_ERROR(ToStatus(cudaMalloc(&data, std::max<size_t>(bytes, 1)),
                                absl::StrCat("allocating ", bytes, " bytes on the GPU")));
  return std::unique_ptr<CudaBuffer>(new CudaBuffer(data, bytes));
}

absl::Status CudaScratch::Grow(size_t bytes) {
  if (buffer_ != nullptr && buffer_->bytes() >= bytes) return absl::OkStatus();
  CountBufferMove();
  buffer_.reset();  // first, so that both need not fit
  KVEC_ASSIGN_OR_RETURN(buffer_, CudaBuffer::Allocate(bytes));
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cuda
