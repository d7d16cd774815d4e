// What has changed of all layers' page tables, in one launch: libraries take tables as they are
// given.

#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/write_tables.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 64;

// A block per write.
__global__ void __launch_bounds__(kThreads)
    WriteTablesKernel(const TableWrite* writes, const int32_t* new_ids, int32_t* page_ids) {
  const TableWrite write = writes[blockIdx.x];
  for (int i = static_cast<int>(threadIdx.x); i < write.count; i += kThreads) {
    page_ids[write.to + i] = new_ids[write.from + i];
  }
}

}  // namespace

cudaError_t WriteTables(cudaStream_t stream, const TableWrite* writes, int num_writes,
                        const int32_t* new_ids, int32_t* page_ids) {
  return Launch(stream, {static_cast<unsigned>(num_writes), kThreads}, WriteTablesKernel, writes,
                new_ids, page_ids);
}

}  // namespace kvec::kernels::cuda
