#ifndef KVEC_KERNELS_CUDA_CUDA_STATUS_H_
#define KVEC_KERNELS_CUDA_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kvec::kernels::cuda {

// OK; UNAVAILABLE when there is no GPU or no driver for it; RESOURCE_EXHAUSTED when memory is
// short; else INTERNAL. The message names the operation.
absl::Status ToStatus(cudaError_t error, absl::string_view operation);

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_STATUS_H_
