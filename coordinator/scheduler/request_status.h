#ifndef KVEC_COORDINATOR_SCHEDULER_REQUEST_STATUS_H_
#define KVEC_COORDINATOR_SCHEDULER_REQUEST_STATUS_H_

#include "absl/time/time.h"
#include "coordinator/scheduler/request_state.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::scheduler {

// Where a request is, in numbers. Its session is not told: whoever knows the id could continue it.
v1::RequestStatus StatusOf(const RequestState& request, absl::Time now);

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_REQUEST_STATUS_H_
