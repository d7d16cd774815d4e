#ifndef KVEC_WORKER_COMM_UCX_COMMUNICATOR_H_
#define KVEC_WORKER_COMM_UCX_COMMUNICATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/ucx_links.h"
#include "worker/comm/ucx_transfer.h"

namespace kvec::worker::comm {

// Collectives over UCX, all of them direct exchanges between every two ranks. Sums are made in rank
// order, of small tensors by every rank for itself, of large ones by one rank for each slice.
class UcxCommunicator final : public Communicator {
 public:
  struct Options {
    // Tells this communicator's messages from those of other groups and of other communicators over
    // the same links.
    uint32_t group_id = 0;
    uint8_t channel = 0;
    absl::Duration timeout = absl::Minutes(2);  // of an operation
  };

  // members: of the links' group, by rank; links->self() is one of them.
  UcxCommunicator(std::shared_ptr<UcxLinks> links, std::vector<int> members,
                  const Options& options);

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  absl::Status AllReduceSum(kernels::Tensor x) override;
  absl::Status AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) override;
  absl::Status Broadcast(int root, absl::Span<uint8_t> data) override;
  absl::Status Send(int to, absl::Span<const uint8_t> data) override;
  absl::Status Receive(int from, absl::Span<uint8_t> data) override;
  // Of all communicators over the same links.
  void Abort() override { links_->Abort(); }

 private:
  enum class Kind : uint8_t { kMessage, kAllReduce, kAllGather, kBroadcast };

  uint64_t Tag(Kind kind, int from_rank) const;
  void PostSend(UcxTransfer& transfer, Kind kind, int to, absl::Span<const uint8_t> data) const;
  void PostReceive(UcxTransfer& transfer, Kind kind, int from, absl::Span<uint8_t> data) const;
  absl::Time Deadline() const;
  absl::Status CheckPeer(absl::string_view what, int rank) const;

  // Both on data[n], contiguous.
  absl::Status SumWhole(absl::Span<float> data);
  absl::Status SumSlices(absl::Span<float> data);

  const std::shared_ptr<UcxLinks> links_;
  const std::vector<int> members_;  // [size], index in the links' group
  const Options options_;
  int rank_ = 0;
  std::vector<float> packed_;    // a tensor whose rows are apart
  std::vector<float> received_;  // the other ranks' parts
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_UCX_COMMUNICATOR_H_
