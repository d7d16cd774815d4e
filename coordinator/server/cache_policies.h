#ifndef KVEC_COORDINATOR_SERVER_CACHE_POLICIES_H_
#define KVEC_COORDINATOR_SERVER_CACHE_POLICIES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// The names that a CachePolicy may have; a new policy is one line in the table behind it.
std::vector<std::string> CachePolicyNames();

// Fills the fields that `requested` leaves unset from `defaults`, or with the policy's own values,
// so that workers find none empty. INVALID_ARGUMENT names a field out of range, and for an unknown
// policy those that are known.
absl::StatusOr<v1::CachePolicy> ResolveCachePolicy(const v1::CachePolicy& requested,
                                                   const v1::CachePolicy& defaults);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_CACHE_POLICIES_H_
