#ifndef KVEC_KERNELS_CUDA_CUDA_KV_ARENA_H_
#define KVEC_KERNELS_CUDA_CUDA_KV_ARENA_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/kv_pages.h"
#include "kernels/kv_arena.h"

namespace kvec::kernels::cuda {

// The arena in a GPU's memory; kv_pages.h says how a page is laid out.
class CudaKvArena : public KvArena {
 public:
  // INVALID_ARGUMENT for a head_dim that is no multiple of 8 (in int8: of 16) up to kMaxHeadDim, or
  // for no pages; RESOURCE_EXHAUSTED when the memory is not there.
  static absl::StatusOr<std::unique_ptr<CudaKvArena>> Create(const KvArenaSpec& spec,
                                                             bool use_wgmma);

  static constexpr int kMaxHeadDim = 256;

  const KvArenaSpec& spec() const override { return spec_; }
  size_t bytes() const override { return pages_->bytes() + positions_->bytes(); }

  // Whether prefill attention over it takes the products of compute capability 9.0.
  bool use_wgmma() const { return use_wgmma_; }

  KvPages pages() const {
    return {pages_->data(), static_cast<int32_t*>(positions_->data()), spec_.head_dim, spec_.type};
  }

 private:
  CudaKvArena(const KvArenaSpec& spec, bool use_wgmma, std::unique_ptr<CudaBuffer> pages,
              std::unique_ptr<CudaBuffer> positions)
      : spec_(spec),
        use_wgmma_(use_wgmma),
        pages_(std::move(pages)),
        positions_(std::move(positions)) {}

  const KvArenaSpec spec_;
  const bool use_wgmma_;
  const std::unique_ptr<CudaBuffer> pages_;
  const std::unique_ptr<CudaBuffer> positions_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_KV_ARENA_H_
