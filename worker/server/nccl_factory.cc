#include "worker/server/nccl_factory.h"

#include "worker/comm/nccl/nccl_device_comm.h"

namespace kvec::worker::server {

std::unique_ptr<comm::DeviceComm> MakeNcclComm(cudaStream_t stream) {
  return std::make_unique<comm::nccl::NcclDeviceComm>(stream);
}

}  // namespace kvec::worker::server
