#include "absl/strings/str_cat.h"
#include "worker/comm/nccl/nccl_library.h"

namespace kvec::worker::comm::nccl {

absl::Status NcclLibrary::ToStatus(ncclResult_t result, absl::string_view what) const {
  const std::string message = absl::StrCat(what, ": NCCL: ", get_error_string(result));
  switch (result) {
    case ncclSuccess:
      return absl::OkStatus();
    case ncclUnhandledCudaError:
    case ncclSystemError:
    case ncclRemoteError:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace kvec::worker::comm::nccl
