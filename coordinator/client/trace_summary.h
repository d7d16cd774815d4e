#ifndef KVEC_COORDINATOR_CLIENT_TRACE_SUMMARY_H_
#define KVEC_COORDINATOR_CLIENT_TRACE_SUMMARY_H_

#include <cstdint>
#include <map>
#include <string>

#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// Where a row's time went: of every kind of span the time that no span inside it covers.
struct RowSummary {
  int64_t total_ns = 0;    // from the first span's begin to the last one's end
  int64_t waiting_ns = 0;  // for a Step, for sampled tokens and for what the stage before sends
  std::map<std::string, int64_t> own_ns;  // by name; what no span covers: ""
};

RowSummary SummarizeRow(const v1::TraceRow& row);

// A table of all rows, as shares of their time; the widest kinds of span first.
std::string TraceSummary(const v1::TraceResponse& trace);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TRACE_SUMMARY_H_
