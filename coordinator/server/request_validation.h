#ifndef KVEC_COORDINATOR_SERVER_REQUEST_VALIDATION_H_
#define KVEC_COORDINATOR_SERVER_REQUEST_VALIDATION_H_

#include "absl/status/statusor.h"
#include "coordinator/scheduler/request.h"
#include "coordinator/server/served_model.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// Makes a scheduler's request of a client's: every field checked, unset ones filled with their
// defaults, an id made up and a seed drawn where there is none. `sink` and `deadline` are left to
// the caller. INVALID_ARGUMENT names the field and the offending value. is_follow_up: the session is
// there, and the request's input comes after its text.
absl::StatusOr<scheduler::Request> ValidateRequest(const v1::GenerateRequest& request,
                                                   const ServedModel& model,
                                                   const v1::CachePolicy& default_cache,
                                                   bool is_follow_up);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_REQUEST_VALIDATION_H_
