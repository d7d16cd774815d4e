#ifndef KVEC_WORKER_COMM_LOCAL_COMMUNICATOR_H_
#define KVEC_WORKER_COMM_LOCAL_COMMUNICATOR_H_

#include <atomic>

#include "worker/comm/communicator.h"

namespace kvec::worker::comm {

// A group of one: what it gathers and sums is its own. There is no one to send to.
class LocalCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  absl::Status AllReduceSum(kernels::Tensor x) override;
  absl::Status AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) override;
  absl::Status Broadcast(int root, absl::Span<uint8_t> data) override;
  // INVALID_ARGUMENT.
  absl::Status Send(int to, absl::Span<const uint8_t> data) override;
  absl::Status Receive(int from, absl::Span<uint8_t> data) override;
  void Abort() override { is_aborted_ = true; }

 private:
  absl::Status CheckNotAborted() const;

  std::atomic<bool> is_aborted_ = false;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_LOCAL_COMMUNICATOR_H_
