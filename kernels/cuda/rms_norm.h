#ifndef KVEC_KERNELS_CUDA_RMS_NORM_H_
#define KVEC_KERNELS_CUDA_RMS_NORM_H_

#include <cuda_runtime_api.h>

#include "kernels/tensor.h"

// The functions of this folder's .cu files queue kernels and check nothing: CudaDevice does. They
// return the runtime's error, no Status: Abseil's headers cost nvcc 2.5 s per file and
// architecture.
namespace kvec::kernels::cuda {

// out[m, n] = x / sqrt(mean(x²) + eps) · weight[n]. out may be x.
cudaError_t RmsNorm(cudaStream_t stream, Tensor x, const float* weight, float eps,
                    ProductInput out);

// x[m, n] += rms_norm(y[m, n]) · weight[n].
cudaError_t AddRmsNorm(cudaStream_t stream, Tensor y, const float* weight, float eps, Tensor x);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_RMS_NORM_H_
