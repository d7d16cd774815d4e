#ifndef KVEC_COORDINATOR_SERVER_TRACE_CONTEXT_H_
#define KVEC_COORDINATOR_SERVER_TRACE_CONTEXT_H_

#include <grpcpp/server_context.h>

#include <string>

#include "absl/strings/string_view.h"

namespace kvec::coordinator::server {

// The trace id in a W3C traceparent header, 32 hexadecimal digits; empty when the header is not
// one: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".
std::string ParseTraceId(absl::string_view traceparent);

// The trace id of a call: that of its header traceparent, or a new one when it has none. It stands
// in the log lines of the request, also the workers'.
std::string TraceIdOf(const grpc::CallbackServerContext& context);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_TRACE_CONTEXT_H_
