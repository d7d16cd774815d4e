#ifndef KVEC_WORKER_EVICTION_COVERAGE_MESSAGE_H_
#define KVEC_WORKER_EVICTION_COVERAGE_MESSAGE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/eviction/policy.h"

namespace kvec::worker::eviction {

// What earlier layers kept, from one stage to the next.
absl::Status SendCoverage(const Coverage& coverage, int to, comm::Communicator& group);

// num_tokens: positions that the coverage is about.
absl::StatusOr<Coverage> ReceiveCoverage(int num_tokens, int from, comm::Communicator& group);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_COVERAGE_MESSAGE_H_
