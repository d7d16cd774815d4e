#include "worker/server/device_factory.h"

namespace kvec::worker::server {

absl::StatusOr<MadeDevice> MakeCudaDevice(const WorkerFlags& flags) {
  return absl::FailedPreconditionError(
      "--device cuda: this kvec-worker was built where no CUDA compiler was found; "
      "deploy/local/fetch_cuda.sh compiler fetches one");
}

}  // namespace kvec::worker::server
