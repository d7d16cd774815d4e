#ifndef KVEC_KERNELS_CUDA_HADAMARD_H_
#define KVEC_KERNELS_CUDA_HADAMARD_H_

#include <cuda_runtime.h>

// The rotation of keys in int8 arenas, and of the queries that meet them. Device code.
namespace kvec::kernels::cuda {

// rows[num_rows][head_dim], `stride` apart in shared memory, = H · each row: the blocks of H on the
// diagonal are orthonormal Hadamard matrices, as large as a power of 2 that divides head_dim can
// be. H is its own inverse. All threads of the block call it; it waits for all that they wrote, and
// they for it.
template <int kThreads>
__device__ void RotateRows(float* rows, int num_rows, int stride, int head_dim) {
  const int size = head_dim & -head_dim;
  const int num_pairs = head_dim / 2;
  for (int half = 1; half < size; half *= 2) {
    const float factor = 2 * half == size ? 1.0f / sqrtf(static_cast<float>(size)) : 1.0f;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < num_rows * num_pairs; i += kThreads) {
      const int pair = i % num_pairs;
      float* const first = rows + i / num_pairs * stride + pair / half * 2 * half + pair % half;
      const float a = first[0];
      const float b = first[half];
      first[0] = (a + b) * factor;
      first[half] = (a - b) * factor;
    }
  }
  __syncthreads();
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_HADAMARD_H_
