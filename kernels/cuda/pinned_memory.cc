#include "kernels/cuda/pinned_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {
namespace {

constexpr size_t kBlockBytes = size_t{256} << 10;
constexpr size_t kAlignment = 64;

}  // namespace

PinnedMemory::~PinnedMemory() {
  for (const Block& block : blocks_) (void)cudaFreeHost(block.data);
}

absl::StatusOr<uint8_t*> PinnedMemory::Allocate(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  for (; block_ < blocks_.size(); ++block_, used_ = 0) {
    const Block& block = blocks_[block_];
    if (used_ + bytes > block.bytes) continue;
    used_ += bytes;
    return block.data + used_ - bytes;
  }
  const size_t block_bytes = std::max(kBlockBytes, 2 * bytes);
  void* data = nullptr;
  KVEC_RETURN_IF_ERROR(ToStatus(cudaMallocHost(&data, block_bytes), "allocating pinned memory"));
  blocks_.push_back({static_cast<uint8_t*>(data), block_bytes});
  used_ = bytes;
  return blocks_.back().data;
}

void PinnedMemory::Reset() {
  block_ = 0;
  used_ = 0;
}

}  // namespace kvec::kernels::cuda
