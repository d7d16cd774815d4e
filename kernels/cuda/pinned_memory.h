#ifndef KVEC_KERNELS_CUDA_PINNED_MEMORY_H_
#define KVEC_KERNELS_CUDA_PINNED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace kvec::kernels::cuda {

// Where results come to in the host's memory while the host goes on: the GPU writes to pinned
// memory only without being waited for.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  // Valid until Reset; aligned for every type. RESOURCE_EXHAUSTED when the memory is not there.
  absl::StatusOr<uint8_t*> Allocate(size_t bytes);
  // Nobody writes there any more: all memory is free again.
  void Reset();

 private:
  struct Block {
    uint8_t* data;
    size_t bytes;
  };

  std::vector<Block> blocks_;
  size_t block_ = 0;  // the one that is being filled
  size_t used_ = 0;   // of it
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_PINNED_MEMORY_H_
