#ifndef KVEC_KERNELS_CUDA_WRITE_TABLES_H_
#define KVEC_KERNELS_CUDA_WRITE_TABLES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvec::kernels::cuda {

// Ids that a page table gets.
struct TableWrite {
  int32_t to;    // of all tables' ids
  int32_t from;  // of the new ids
  int32_t count;
};

// page_ids[to + i] = new_ids[from + i]. No two writes are to the same place.
cudaError_t WriteTables(cudaStream_t stream, const TableWrite* writes, int num_writes,
                        const int32_t* new_ids, int32_t* page_ids);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WRITE_TABLES_H_
