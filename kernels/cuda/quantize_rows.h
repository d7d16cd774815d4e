#ifndef KVEC_KERNELS_CUDA_QUANTIZE_ROWS_H_
#define KVEC_KERNELS_CUDA_QUANTIZE_ROWS_H_

#include <cuda_runtime_api.h>

#include "kernels/cuda/weight_type.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// numbers[num_rows, num_cols] and scales[num_rows], whose products are nearest to x[m, n]; rows
// from m and columns from n on are zero. A row's scale is its largest magnitude / 127 (kInt8) or /
// 448 (kFp8), or 0 where that is below 1e-30; infinite where the row has a number that is not
// finite, so that no product hides it.
cudaError_t QuantizeRows(cudaStream_t stream, Tensor x, WeightType type, int num_rows, int num_cols,
                         void* numbers, float* scales);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_QUANTIZE_ROWS_H_
