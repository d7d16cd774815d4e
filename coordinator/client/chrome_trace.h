#ifndef KVEC_COORDINATOR_CLIENT_CHROME_TRACE_H_
#define KVEC_COORDINATOR_CLIENT_CHROME_TRACE_H_

#include <string>

#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// The trace in Chrome's event format, for chrome://tracing and ui.perfetto.dev: a thread for each
// row, times in microseconds since the first span.
std::string ChromeTrace(const v1::TraceResponse& trace);

// "coordinator", "stage 0 rank 1: worker-7"
std::string RowName(const v1::TraceResponse& trace, int row);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_CHROME_TRACE_H_
