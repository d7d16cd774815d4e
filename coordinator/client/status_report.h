#ifndef KVEC_COORDINATOR_CLIENT_STATUS_REPORT_H_
#define KVEC_COORDINATOR_CLIENT_STATUS_REPORT_H_

#include <optional>
#include <string>

#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// What `kvec status` shows, for people and for programs (one JSON object on one line).
std::string StatusTable(const v1::GetModelResponse& model, const v1::GetStatusResponse& status);
// The same live: with rates since `last`, and the requests.
std::string WatchTable(const v1::GetModelResponse& model, const v1::GetStatusResponse& status,
                       const std::optional<v1::GetStatusResponse>& last);
std::string StatusJson(const v1::GetModelResponse& model, const v1::GetStatusResponse& status);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_STATUS_REPORT_H_
