#ifndef KVEC_KERNELS_CPU_MATMUL_H_
#define KVEC_KERNELS_CPU_MATMUL_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cpu {

// Memory that MatMul works in, kept from call to call so that a Step allocates nothing once its
// largest shapes have been seen. One per CpuDevice, with its thread pool; used by one MatMul at a
// time.
class MatMulScratch {
 public:
  explicit MatMulScratch(int num_threads) : threads_(num_threads) {}

  // Of the rows as a whole; RESOURCE_EXHAUSTED when the memory is not there.
  absl::Status ReserveActivations(size_t bytes) { return Reserve(bytes, activations_); }
  // Of each thread.
  absl::Status ReservePerThread(size_t bytes);

  uint8_t* activations() { return activations_.data(); }
  uint8_t* thread(int thread) { return threads_[thread].data(); }

 private:
  static absl::Status Reserve(size_t bytes, AlignedBuffer& buffer);

  AlignedBuffer activations_;
  std::vector<AlignedBuffer> threads_;
};

// The sources on top of each other as one weight for MatMul. INVALID_ARGUMENT for sources whose
// sizes contradict each other or their data; RESOURCE_EXHAUSTED when memory ends.
absl::StatusOr<std::unique_ptr<Weight>> PrepareWeight(ThreadPool& pool,
                                                      absl::Span<const WeightSource> sources,
                                                      Isa isa);

// y[m, out] (+)= x[m, in] · Wᵀ (+ bias[out], may be null), with `weight` from PrepareWeight. Each
// row comes out alike, bit by bit, whatever the number of rows and of threads. INVALID_ARGUMENT
// when the shapes do not fit each other.
//
// Products with quantised weights run on integers: rows of x are rounded to 16 bits with a scale
// per 32 inputs.
absl::Status MatMul(ThreadPool& pool, const Weight& weight, Tensor x, const float* bias,
                    MatMulMode mode, Tensor y, MatMulScratch& scratch);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_MATMUL_H_
