#ifndef KVEC_COMMON_LOGGING_H_
#define KVEC_COMMON_LOGGING_H_

#include <glog/logging.h>  // The only include of glog: a later absl's macros would clash with it.

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kvec {

// Sends log lines of at least this level ("debug", "info", "warning", "error") to standard error.
// Once per process, before the first line. INVALID_ARGUMENT for another word.
//
// A line is one event. It begins with the request's or the worker's id and never holds text of a
// prompt or a completion:
//
//   LOG(INFO) << request_id << ": finished, 812 prompt and 64 generated tokens";
absl::Status InitLogging(const char* program, absl::string_view level);

}  // namespace kvec

#endif  // KVEC_COMMON_LOGGING_H_
