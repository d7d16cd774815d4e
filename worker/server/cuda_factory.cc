#include <string>
#include <utility>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_device.h"
#include "worker/server/device_factory.h"
#include "worker/server/nccl_factory.h"

namespace kvec::worker::server {
namespace {

// Of a name that --cuda-weights lets through.
kernels::cuda::WeightType WeightTypeOf(const std::string& name) {
  if (name == "int8") return kernels::cuda::WeightType::kInt8;
  return name == "fp8" ? kernels::cuda::WeightType::kFp8 : kernels::cuda::WeightType::kBF16;
}

}  // namespace

absl::StatusOr<MadeDevice> MakeCudaDevice(const WorkerFlags& flags) {
  kernels::cuda::CudaDevice::Options options;
  if (flags.deterministic) options.product_mode = kernels::cuda::ProductMode::kDeterministic;
  options.weight_type = WeightTypeOf(flags.cuda_weights);
  options.use_graphs = flags.cuda_graphs;
  options.use_wgmma = flags.cuda_wgmma;
  KVEC_ASSIGN_OR_RETURN(auto device, kernels::cuda::CudaDevice::Create(options));
  KVEC_ASSIGN_OR_RETURN(const uint64_t free_bytes, device->FreeBytes());
  auto comm = MakeNcclComm(device->stream());
  return MadeDevice{std::move(device), free_bytes, std::move(comm)};
}

}  // namespace kvec::worker::server
