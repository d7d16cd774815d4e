#ifndef KVEC_KERNELS_CPU_ALIGNED_BUFFER_H_
#define KVEC_KERNELS_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/status/statusor.h"

namespace kvec::kernels::cpu {

// What a buffer's memory is made of, where it is large enough to choose.
enum class PageSize {
  kSmall,  // 4 KiB: only what is touched is resident
  kHuge,  // 2 MiB: a weight is read from end to end for every token, and small pages cost 5 to 15 %
          // of that bandwidth
};

// Bytes that begin at a cache line.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  // RESOURCE_EXHAUSTED when the memory is not there. Contents are undefined.
  static absl::StatusOr<AlignedBuffer> Allocate(size_t bytes,
                                                PageSize page_size = PageSize::kSmall);

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };

  std::unique_ptr<uint8_t, Free> data_;
  size_t bytes_ = 0;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ALIGNED_BUFFER_H_
