#ifndef KVEC_KERNELS_CUDA_SCALE_SUMS_H_
#define KVEC_KERNELS_CUDA_SCALE_SUMS_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/weight_type.h"
#include "kernels/device.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// What a product of 8 bits leaves to be done.
struct SumsToScale {
  WeightType type = WeightType::kInt8;
  const void* sums = nullptr;            // [y.rows, num_cols], int32_t (kInt8) or float (kFp8)
  int num_cols = 0;                      // not less than y.cols
  const float* x_scales = nullptr;       // [y.rows]
  const float* weight_scales = nullptr;  // [y.cols]
  const float* bias = nullptr;           // [y.cols], may be null
  MatMulMode mode = MatMulMode::kOverwrite;
  Tensor y;  // [m, out_features]
};

// y (+)= sums · x_scales · weight_scales (+ bias).
cudaError_t ScaleSums(cudaStream_t stream, const SumsToScale& of);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SCALE_SUMS_H_
