#include "kernels/cuda/cuda_kv_arena.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::kernels::cuda {
namespace {

absl::Status CheckSpec(const KvArenaSpec& spec) {
  if (spec.head_dim <= 0 || spec.head_dim > CudaKvArena::kMaxHeadDim || spec.head_dim % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("head_dim: ", spec.head_dim,
                                                   " is no multiple of 8 between 8 and ",
                                                   CudaKvArena::kMaxHeadDim));
  }
  if (spec.type == KvType::kInt8 && spec.head_dim % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim: ", spec.head_dim, " is no multiple of 16, as int8 needs on a GPU"));
  }
  if (spec.num_pages <= 0 || spec.num_pages > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_pages: ", spec.num_pages, " is not between 1 and 2147483647"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaKvArena>> CudaKvArena::Create(const KvArenaSpec& spec,
                                                                 bool use_wgmma) {
  KVEC_RETURN_IF_ERROR(CheckSpec(spec));
  const auto num_pages = static_cast<size_t>(spec.num_pages);
  KVEC_ASSIGN_OR_RETURN(auto pages, CudaBuffer::Allocate(num_pages * spec.page_bytes()));
  KVEC_ASSIGN_OR_RETURN(auto positions,
                        CudaBuffer::Allocate(num_pages * kPageTokens * sizeof(int32_t)));
  return std::unique_ptr<CudaKvArena>(
      new CudaKvArena(spec, use_wgmma, std::move(pages), std::move(positions)));
}

}  // namespace kvec::kernels::cuda
