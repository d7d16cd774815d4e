#ifndef KVEC_KERNELS_CUDA_SCALED_PRODUCT_H_
#define KVEC_KERNELS_CUDA_SCALED_PRODUCT_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/dense_product.h"
#include "kernels/device.h"

namespace kvec::kernels::cuda {

// y (+)= x · weightᵀ (+ bias), of a weight of 8 bits: x is rounded to as many, row by row, into the
// scratch, where the unscaled sums go too.
absl::Status MultiplyScaled(cudaStream_t stream, const CudaWeight& weight, Tensor x,
                            const float* bias, MatMulMode mode, Tensor y, DenseProduct& product,
                            CudaScratch& scratch);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SCALED_PRODUCT_H_
