#ifndef KVEC_TESTS_WORKER_COMM_NCCL_STAND_IN_NCCL_H_
#define KVEC_TESTS_WORKER_COMM_NCCL_STAND_IN_NCCL_H_

#include <cstdint>

#include "absl/time/time.h"

namespace kvec::worker::comm::nccl {

// A library with NCCL's functions on the host simulator: what NcclLibrary::Open gives the programs
// that link it. Ranks are threads or processes of this machine and meet in shared memory that the
// unique id names. Like the real one it is non-blocking where asked, queues its work on the
// caller's stream, and waits there for a rank that does not come until the communicator is aborted.
// A send is over when it was received, not before: what a group may rely on least.

// Operations that are queued from now on take so long at least, in this process.
void SetNcclDelay(absl::Duration delay);

// As when the network between the ranks fails: every communicator of this process has an
// asynchronous error, and its peers in other threads and processes too.
void FailNcclNetwork();

// Communicators of this process that were neither aborted nor destroyed.
int NumNcclCommunicators();

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_TESTS_WORKER_COMM_NCCL_STAND_IN_NCCL_H_
