// Of our own: a copy by the runtime would have fixed addresses in a graph, and one launch a row.

#include <cuda_runtime.h>

#include "kernels/cuda/keep_rows.h"
#include "kernels/cuda/launch.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// A block per row.
__global__ void __launch_bounds__(kThreads)
    KeepRowsKernel(Tensor queries, const KeptRow* rows, int layer) {
  const KeptRow row = rows[blockIdx.x];
  if (row.row < 0) return;
  const float* const from = queries.data + row.row * queries.stride;
  float* const to = row.to + layer * row.layer_stride;
  for (int i = static_cast<int>(threadIdx.x); i < queries.cols; i += kThreads) to[i] = from[i];
}

}  // namespace

cudaError_t KeepRows(cudaStream_t stream, Tensor queries, const KeptRow* rows, int num_rows,
                     int layer) {
  return Launch(stream, {static_cast<unsigned>(num_rows), kThreads}, KeepRowsKernel, queries, rows,
                layer);
}

}  // namespace kvec::kernels::cuda
