#ifndef KVEC_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_
#define KVEC_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_

#include <cuda_runtime_api.h>

#include <memory>

#include "worker/comm/communicator.h"
#include "worker/comm/nccl/nccl_handle.h"

namespace kvec::worker::comm::nccl {

// Collectives between GPUs, queued on the device's stream behind the work that makes their input:
// nothing waits on the host. All memory is the GPU's. A sum is the same on every rank, in an order
// of NCCL's own that depends on the group's shape and hosts alone; a Send holds the stream until
// the peer receives.
class NcclCommunicator final : public Communicator {
 public:
  // `handle` is connected; `stream` outlives the communicator.
  NcclCommunicator(std::shared_ptr<NcclHandle> handle, int rank, int size, cudaStream_t stream)
      : handle_(std::move(handle)), rank_(rank), size_(size), stream_(stream) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  absl::Status AllReduceSum(kernels::Tensor x) override;
  absl::Status AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) override;
  absl::Status Broadcast(int root, absl::Span<uint8_t> data) override;
  absl::Status Send(int to, absl::Span<const uint8_t> data) override;
  absl::Status Receive(int from, absl::Span<uint8_t> data) override;
  absl::Status Launch(absl::FunctionRef<absl::Status()> launch) override;
  absl::Status Completed() override { return handle_->Completed(); }
  void Abort() override { handle_->Abort(); }

 private:
  absl::Status CheckPeer(absl::string_view what, int peer) const;

  const std::shared_ptr<NcclHandle> handle_;
  const int rank_;
  const int size_;
  const cudaStream_t stream_;
};

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_WORKER_COMM_NCCL_NCCL_COMMUNICATOR_H_
