#ifndef KVEC_KERNELS_CUDA_GATHER_ENTRIES_H_
#define KVEC_KERNELS_CUDA_GATHER_ENTRIES_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/kv_pages.h"

namespace kvec::kernels::cuda {

// The entries that one KV head keeps. Offsets into the words that GatherEntries is given.
struct GatherTask {
  int32_t first_page;  // page ids of the head
  int32_t first_kept;  // the entries kept, ascending
  int32_t num_kept;
  int32_t first_to_page;  // page ids to write to
};

// Moves the kept entries of each head, keys, values and positions, to the leading places of its
// pages to write to; in place where these are the head's own.
cudaError_t GatherEntries(cudaStream_t stream, const GatherTask* tasks, int num_tasks,
                          const int32_t* words, const KvPages& kv);

// Copies pages from[i] to to[i], positions included. No page is both read and written.
cudaError_t CopyPages(cudaStream_t stream, const int32_t* from, const int32_t* to, int num_pages,
                      const KvPages& kv);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_GATHER_ENTRIES_H_
