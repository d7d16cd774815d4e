#include "worker/server/device_factory.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/server/resident_memory.h"

namespace kvec::worker::server {

absl::StatusOr<MadeDevice> MakeDevice(const WorkerFlags& flags, int num_threads) {
  if (flags.device == "cuda") return MakeCudaDevice(flags);
  if (flags.cuda_weights != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--cuda-weights: ", flags.cuda_weights, ", but --device is ", flags.device));
  }
  kernels::cpu::CpuDevice::Options options;
  options.num_threads = num_threads;
  if (!flags.isa.empty()) {
    KVEC_ASSIGN_OR_RETURN(options.isa, kernels::cpu::ParseIsa(flags.isa));
  }
  KVEC_ASSIGN_OR_RETURN(auto device, kernels::cpu::CpuDevice::Create(options));
  return MadeDevice{std::move(device), GetAvailableMemoryBytes()};
}

}  // namespace kvec::worker::server
