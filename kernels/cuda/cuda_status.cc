#include "kernels/cuda/cuda_status.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace kvec::kernels::cuda {

absl::Status ToStatus(cudaError_t error, absl::string_view operation) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string detail = absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  switch (error) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
      return absl::UnavailableError(
          absl::StrCat("this machine has no GPU, or no driver for CUDA 13: ", detail));
    case cudaErrorMemoryAllocation:
      (void)cudaGetLastError();  // not sticky: later calls must not report it again
      return absl::ResourceExhaustedError(absl::StrCat(operation, ": ", detail));
    default:
      return absl::InternalError(absl::StrCat(operation, ": ", detail));
  }
}

}  // namespace kvec::kernels::cuda
