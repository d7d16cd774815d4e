#include <utility>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_device.h"
#include "worker/server/device_factory.h"

namespace kvec::worker::server {

absl::StatusOr<MadeDevice> MakeCudaDevice() {
  KVEC_ASSIGN_OR_RETURN(auto device, kernels::cuda::CudaDevice::Create({}));
  KVEC_ASSIGN_OR_RETURN(const uint64_t free_bytes, device->FreeBytes());
  return MadeDevice{std::move(device), free_bytes};
}

}  // namespace kvec::worker::server
