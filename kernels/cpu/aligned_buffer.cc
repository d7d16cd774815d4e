#include "kernels/cpu/aligned_buffer.h"

#include <sys/mman.h>

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec::kernels::cpu {
namespace {

constexpr size_t kCacheLineBytes = 64;
constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

absl::StatusOr<AlignedBuffer> AlignedBuffer::Allocate(size_t bytes, PageSize page_size) {
  const bool is_huge = page_size == PageSize::kHuge && bytes >= kHugePageBytes;
  const size_t alignment = is_huge ? kHugePageBytes : kCacheLineBytes;
  AlignedBuffer buffer;
  if (bytes <= std::numeric_limits<size_t>::max() - alignment) {
    // aligned_alloc wants a multiple of the alignment; of a huge page only what is used is ever
    // backed by memory.
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    buffer.data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, rounded)));
  }
  if (buffer.data_ == nullptr && bytes != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  }
  buffer.bytes_ = bytes;
  // Whole huge pages only: a partly used one would cost memory. A refusal costs speed, not results.
  if (is_huge) {
    (void)madvise(buffer.data(), bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
  }
  return buffer;
}

}  // namespace kvec::kernels::cpu
