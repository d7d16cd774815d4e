#ifndef KVEC_WORKER_COMM_NCCL_NCCL_DEVICE_COMM_H_
#define KVEC_WORKER_COMM_NCCL_NCCL_DEVICE_COMM_H_

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "worker/comm/device_comm.h"
#include "worker/comm/nccl/nccl_handle.h"

namespace kvec::worker::comm::nccl {

// Groups of GPUs. Rank 0 makes the id by which NCCL's ranks find each other, and hands it to the
// others over the host's communicator, whose addresses the coordinator handed round: an id costs a
// listening thread, so nobody makes one that is not used.
class NcclDeviceComm final : public DeviceComm {
 public:
  // The device's; outlives this.
  explicit NcclDeviceComm(cudaStream_t stream) : stream_(stream) {}

  absl::Status Connect(const Timeouts& timeouts, GroupComm& comm) override;
  void Abort() override;
  void Renew() override;
  bool is_waiting() const override;

 private:
  absl::StatusOr<std::unique_ptr<Communicator>> ConnectAs(const NcclLibrary& nccl,
                                                          const Timeouts& timeouts,
                                                          Communicator& host);
  // UNAVAILABLE after Abort.
  absl::StatusOr<std::shared_ptr<NcclHandle>> NewHandle(const NcclLibrary& nccl);

  const cudaStream_t stream_;
  mutable std::mutex mutex_;
  bool is_aborted_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<NcclHandle>> handles_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_WORKER_COMM_NCCL_NCCL_DEVICE_COMM_H_
