#ifndef KVEC_WORKER_MODEL_RANK_PEERS_H_
#define KVEC_WORKER_MODEL_RANK_PEERS_H_

#include <cstdint>
#include <vector>

#include "kernels/work_replayer.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::model {

// A stage's ranks as peers of a device, whose sums over them are queued. Hosts exchange numbers:
// the device has work to do meanwhile.
class RankPeers final : public kernels::WorkPeers {
 public:
  // `comm` outlives this.
  explicit RankPeers(comm::GroupComm& comm) : comm_(comm) {}

  absl::StatusOr<std::vector<int64_t>> Exchange(absl::Span<const int64_t> mine) override {
    std::vector<int64_t> all(mine.size() * static_cast<size_t>(comm_.num_ranks));
    const absl::Status status = comm_.ranks->AllGather(
        {reinterpret_cast<const uint8_t*>(mine.data()), mine.size() * sizeof(int64_t)},
        {reinterpret_cast<uint8_t*>(all.data()), all.size() * sizeof(int64_t)});
    if (!status.ok()) return status;
    return all;
  }
  absl::Status Launch(absl::FunctionRef<absl::Status()> launch) override {
    return comm_.TensorRanks().Launch(launch);
  }

 private:
  comm::GroupComm& comm_;
};

}  // namespace kvec::worker::model

#endif  // KVEC_WORKER_MODEL_RANK_PEERS_H_
