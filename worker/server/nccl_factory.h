#ifndef KVEC_WORKER_SERVER_NCCL_FACTORY_H_
#define KVEC_WORKER_SERVER_NCCL_FACTORY_H_

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/comm/device_comm.h"

namespace kvec::worker::server {

// Communicators between GPUs. In two files, of which CMake takes one: a build without NCCL's header
// answers FAILED_PRECONDITION when a group forms. `stream` outlives it.
std::unique_ptr<comm::DeviceComm> MakeNcclComm(cudaStream_t stream);

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_NCCL_FACTORY_H_
