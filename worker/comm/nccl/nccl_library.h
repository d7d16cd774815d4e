#ifndef KVEC_WORKER_COMM_NCCL_NCCL_LIBRARY_H_
#define KVEC_WORKER_COMM_NCCL_NCCL_LIBRARY_H_

#include <nccl.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::worker::comm::nccl {

// The functions of libnccl that we call. Opened when the first group of GPUs forms, not linked: a
// worker that is alone, or on a CPU, needs none.
struct NcclLibrary {
  decltype(&ncclGetUniqueId) get_unique_id;
  decltype(&ncclCommInitRankConfig) init_rank;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclCommGetAsyncError) get_async_error;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclAllGather) all_gather;
  decltype(&ncclBroadcast) broadcast;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) receive;
  decltype(&ncclGetErrorString) get_error_string;

  // Opened once per process. FAILED_PRECONDITION, with the loader's words, when it cannot be.
  static absl::StatusOr<const NcclLibrary*> Open();

  // OK; UNAVAILABLE where a peer, the network or a GPU failed; else INTERNAL. `what` begins the
  // message.
  absl::Status ToStatus(ncclResult_t result, absl::string_view what) const;
};

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_WORKER_COMM_NCCL_NCCL_LIBRARY_H_
