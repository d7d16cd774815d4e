#ifndef KVEC_COORDINATOR_CLIENT_WRITE_FILE_H_
#define KVEC_COORDINATOR_CLIENT_WRITE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::client {

// INVALID_ARGUMENT names the option and the path.
absl::Status WriteFile(absl::string_view option, const std::string& path,
                       const std::string& content);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_WRITE_FILE_H_
