#ifndef KVEC_KERNELS_CUDA_KEEP_ROWS_H_
#define KVEC_KERNELS_CUDA_KEEP_ROWS_H_

#include <cuda_runtime_api.h>

#include "kernels/attention_batch.h"
#include "kernels/tensor.h"

namespace kvec::kernels::cuda {

// Copies queries[m, n] to where rows[num_rows] are kept in a layer; rows below 0 are none.
cudaError_t KeepRows(cudaStream_t stream, Tensor queries, const KeptRow* rows, int num_rows,
                     int layer);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_KEEP_ROWS_H_
