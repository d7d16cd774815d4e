#ifndef KVEC_COMMON_LOGGING_H_
#define KVEC_COMMON_LOGGING_H_

// The only header that brings a logging library: LOG, VLOG, CHECK. One line per event, request id
// first, never prompt text.
#include <glog/logging.h>

#endif  // KVEC_COMMON_LOGGING_H_
