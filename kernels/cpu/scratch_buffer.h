#ifndef KVEC_KERNELS_CPU_SCRATCH_BUFFER_H_
#define KVEC_KERNELS_CPU_SCRATCH_BUFFER_H_

#include <cstddef>
#include <memory>
#include <new>

namespace kvec::kernels::cpu {

// Floats that one thread works in, aligned to cache lines. Grows to the largest request and stays
// there, so that a running server allocates nothing; meant for thread_local variables.
class ScratchBuffer {
 public:
  // At least `size` floats of undefined contents; valid until the next call.
  float* Reserve(size_t size) {
    if (size > size_) {
      data_.reset(static_cast<float*>(::operator new(size * sizeof(float), kAlignment)));
      size_ = size;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};

  struct Delete {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };

  std::unique_ptr<float, Delete> data_;
  size_t size_ = 0;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_SCRATCH_BUFFER_H_
