#include "coordinator/client/chrome_trace.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kProcess = 1;

int64_t FirstBegin(const v1::TraceResponse& trace) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const v1::TraceRow& row : trace.rows()) {
    for (const v1::TraceSpan& span : row.spans()) first = std::min(first, span.begin_ns());
  }
  return first;
}

Json Metadata(const char* what, int thread, Json arguments) {
  return {{"name", what}, {"ph", "M"}, {"pid", kProcess}, {"tid", thread}, {"args", arguments}};
}

Json Event(const v1::TraceSpan& span, int thread, int64_t first_begin_ns) {
  Json arguments = {{"step", span.step_id()}};
  if (span.num_rows() > 0) arguments["rows"] = span.num_rows();
  if (span.sent_bytes() > 0) arguments["sent_bytes"] = span.sent_bytes();
  return {{"name", span.name()},
          {"ph", "X"},
          {"pid", kProcess},
          {"tid", thread},
          {"ts", static_cast<double>(span.begin_ns() - first_begin_ns) / 1e3},
          {"dur", static_cast<double>(span.duration_ns()) / 1e3},
          {"args", std::move(arguments)}};
}

}  // namespace

std::string RowName(const v1::TraceResponse& trace, int row) {
  const v1::TraceRow& named = trace.rows(row);
  if (row == 0) return named.name();
  return absl::StrCat("stage ", named.stage(), " rank ", named.rank(), ": ", named.name());
}

std::string ChromeTrace(const v1::TraceResponse& trace) {
  const int64_t first_begin_ns = FirstBegin(trace);
  Json events = Json::array();
  events.push_back(Metadata("process_name", 0, {{"name", "kvec"}}));
  for (int row = 0; row < trace.rows_size(); ++row) {
    events.push_back(Metadata("thread_name", row, {{"name", RowName(trace, row)}}));
    events.push_back(Metadata("thread_sort_index", row, {{"sort_index", row}}));
    for (const v1::TraceSpan& span : trace.rows(row).spans()) {
      events.push_back(Event(span, row, first_begin_ns));
    }
  }
  return Json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump() + "\n";
}

}  // namespace kvec::coordinator::client
