#ifndef KVEC_WORKER_COMM_GROUP_COMM_H_
#define KVEC_WORKER_COMM_GROUP_COMM_H_

#include <memory>

#include "absl/status/status.h"
#include "worker/comm/communicator.h"

namespace kvec::worker::comm {

// How a worker of a group reaches the others. Made when a group forms and gone with it: an engine
// is lent one for that time.
struct GroupComm {
  int stage = 0;
  int num_stages = 1;
  int rank = 0;
  int num_ranks = 1;

  // The workers that share this stage's layers, by rank; never null.
  std::unique_ptr<Communicator> ranks;
  // All workers, stage-major: index = stage · num_ranks + rank; never null.
  std::unique_ptr<Communicator> group;

  // The same over the device's tensors; null where these are in the host's memory: `ranks` and
  // `group` reach them.
  std::unique_ptr<Communicator> device_ranks = nullptr;
  std::unique_ptr<Communicator> device_group = nullptr;

  // Of tensors.
  Communicator& TensorRanks() const { return device_ranks == nullptr ? *ranks : *device_ranks; }
  Communicator& TensorGroup() const { return device_group == nullptr ? *group : *device_group; }
  // Whether operations on tensors are queued behind the device's: nobody need wait for these first.
  bool is_queued() const { return device_group != nullptr; }
  // See Communicator::Completed.
  absl::Status Completed() {
    if (absl::Status status = TensorRanks().Completed(); !status.ok()) return status;
    return TensorGroup().Completed();
  }

  int Index(int of_stage, int of_rank) const { return of_stage * num_ranks + of_rank; }

  // Ends what runs on either, as Communicator::Abort. Any thread.
  void Abort() {
    ranks->Abort();
    group->Abort();
    if (device_ranks != nullptr) device_ranks->Abort();
    if (device_group != nullptr) device_group->Abort();
  }
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_GROUP_COMM_H_
