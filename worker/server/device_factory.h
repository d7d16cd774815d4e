#ifndef KVEC_WORKER_SERVER_DEVICE_FACTORY_H_
#define KVEC_WORKER_SERVER_DEVICE_FACTORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/comm/device_comm.h"
#include "worker/server/worker_flags.h"

namespace kvec::worker::server {

struct MadeDevice {
  std::unique_ptr<kernels::Device> device;
  uint64_t available_bytes = 0;  // of the memory that the device allocates from
  // Reaches the other workers' tensors; null where these are in the host's memory.
  std::unique_ptr<comm::DeviceComm> comm = nullptr;
};

// The device that --device names. The device's own errors, such as UNAVAILABLE on a machine without
// a GPU.
absl::StatusOr<MadeDevice> MakeDevice(const WorkerFlags& flags, int num_threads);

// A GPU. In two files, of which CMake takes one: a build without CUDA answers FAILED_PRECONDITION.
absl::StatusOr<MadeDevice> MakeCudaDevice(const WorkerFlags& flags);

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_DEVICE_FACTORY_H_
