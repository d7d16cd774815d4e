#ifndef KVEC_KERNELS_CUDA_ROPE_H_
#define KVEC_KERNELS_CUDA_ROPE_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// out[m, head_dim] = cosines, then sines, of positions[m] · frequencies[head_dim / 2], in double
// precision: a float32 product loses the angle at position 100,000.
cudaError_t RopeAngles(cudaStream_t stream, const int32_t* positions, const double* frequencies,
                       Tensor out);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_ROPE_H_
