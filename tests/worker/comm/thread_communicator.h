#ifndef KVEC_TESTS_WORKER_COMM_THREAD_COMMUNICATOR_H_
#define KVEC_TESTS_WORKER_COMM_THREAD_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::comm {

// Communicators between the threads of one test. What two sides do not agree on, an operation or
// its size, is INTERNAL; Abort of one ends all. Aborted and late operations behave as the interface
// says.
struct ThreadCommOptions {
  absl::Duration deadline = absl::Seconds(120);  // of an operation; machines may be busy
  // A longer message is sent when it is received, not before: what a group may rely on least.
  size_t buffered_bytes = 1024;
};

// One of each rank; any of them may outlive the others.
std::vector<std::unique_ptr<Communicator>> MakeThreadCommunicators(
    int size, const ThreadCommOptions& options = {});

// [num_stages · num_ranks], stage-major.
std::vector<std::unique_ptr<GroupComm>> MakeThreadGroup(int num_stages, int num_ranks,
                                                        const ThreadCommOptions& options = {});

}  // namespace kvec::worker::comm

#endif  // KVEC_TESTS_WORKER_COMM_THREAD_COMMUNICATOR_H_
