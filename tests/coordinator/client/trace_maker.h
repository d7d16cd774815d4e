#ifndef KVEC_TESTS_COORDINATOR_CLIENT_TRACE_MAKER_H_
#define KVEC_TESTS_COORDINATOR_CLIENT_TRACE_MAKER_H_

#include <cstdint>
#include <string>

#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

inline v1::TraceSpan& AddSpan(v1::TraceRow& row, const std::string& name, int64_t begin_ns,
                              int64_t end_ns) {
  v1::TraceSpan& span = *row.add_spans();
  span.set_name(name);
  span.set_begin_ns(begin_ns);
  span.set_duration_ns(end_ns - begin_ns);
  return span;
}

}  // namespace kvec::coordinator::client

#endif  // KVEC_TESTS_COORDINATOR_CLIENT_TRACE_MAKER_H_
