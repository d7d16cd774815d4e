#ifndef KVEC_WORKER_COMM_GROUP_COMM_H_
#define KVEC_WORKER_COMM_GROUP_COMM_H_

#include <memory>

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

  int Index(int of_stage, int of_rank) const { return of_stage * num_ranks + of_rank; }

  // Ends what runs on either, as Communicator::Abort. Any thread.
  void Abort() {
    ranks->Abort();
    group->Abort();
  }
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_GROUP_COMM_H_
