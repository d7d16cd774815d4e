#ifndef KVEC_KERNELS_CPU_ALIGNED_BUFFER_H_
#define KVEC_KERNELS_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "absl/status/statusor.h"

namespace kvec::kernels::cpu {

// Bytes that begin at a cache line and, where there are many, lie on huge pages: a weight is read
// from end to end for every token, and 4 KiB pages cost 5 to 15 % of that bandwidth.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;

  // RESOURCE_EXHAUSTED when the memory is not there. Contents are undefined.
  static absl::StatusOr<AlignedBuffer> Allocate(size_t bytes);

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
