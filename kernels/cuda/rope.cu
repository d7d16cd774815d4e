// Of our own: angles in double precision, as the CPU's, with a model's frequency factors, once for
// all layers of a Step.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/rope.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    RopeAnglesKernel(const int32_t* positions, const double* frequencies, Tensor out) {
  const int half = out.cols / 2;
  float* const cosines = out.data + blockIdx.x * out.stride;
  for (int i = static_cast<int>(threadIdx.x); i < half; i += kThreads) {
    const double angle = positions[blockIdx.x] * frequencies[i];
    cosines[i] = static_cast<float>(cos(angle));
    cosines[half + i] = static_cast<float>(sin(angle));
  }
}

}  // namespace

cudaError_t RopeAngles(cudaStream_t stream, const int32_t* positions, const double* frequencies,
                       Tensor out) {
  return Launch(stream, {static_cast<unsigned>(out.rows), kThreads}, RopeAnglesKernel, positions,
                frequencies, out);
}

}  // namespace kvec::kernels::cuda
