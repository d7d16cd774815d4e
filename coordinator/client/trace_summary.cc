#include "coordinator/client/trace_summary.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/client/chrome_trace.h"
#include "coordinator/client/text_table.h"

namespace kvec::coordinator::client {
namespace {

bool IsWaiting(const std::string& name) {
  return name == "idle" || name == "await tokens" || name == "receive";
}

int64_t EndOf(const v1::TraceSpan& span) { return span.begin_ns() + span.duration_ns(); }

std::string Share(int64_t part, int64_t whole) {
  if (part == 0 || whole == 0) return "-";
  return absl::StrFormat("%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

RowSummary SummarizeRow(const v1::TraceRow& row) {
  RowSummary summary;
  if (row.spans().empty()) return summary;
  std::vector<const v1::TraceSpan*> open;  // each inside the one before
  int64_t end_ns = row.spans(0).begin_ns();
  int64_t covered_ns = 0;
  for (const v1::TraceSpan& span : row.spans()) {
    while (!open.empty() && span.begin_ns() >= EndOf(*open.back())) open.pop_back();
    summary.own_ns[span.name()] += span.duration_ns();
    if (open.empty()) {
      covered_ns += span.duration_ns();
    } else {
      summary.own_ns[open.back()->name()] -= span.duration_ns();
    }
    open.push_back(&span);
    end_ns = std::max(end_ns, EndOf(span));
  }
  summary.total_ns = end_ns - row.spans(0).begin_ns();
  summary.own_ns[""] = summary.total_ns - covered_ns;
  for (const auto& [name, own_ns] : summary.own_ns) {
    if (IsWaiting(name)) summary.waiting_ns += own_ns;
  }
  return summary;
}

std::string TraceSummary(const v1::TraceResponse& trace) {
  std::vector<RowSummary> summaries;
  std::map<std::string, int64_t> of_all;
  for (const v1::TraceRow& row : trace.rows()) {
    summaries.push_back(SummarizeRow(row));
    for (const auto& [name, own_ns] : summaries.back().own_ns) of_all[name] += own_ns;
  }
  std::vector<std::pair<std::string, int64_t>> names(of_all.begin(), of_all.end());
  std::stable_sort(names.begin(), names.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::vector<std::string>> table = {{"", "time", "waiting"}};
  for (const auto& [name, own_ns] : names) table[0].push_back(name.empty() ? "(none)" : name);
  for (int row = 0; row < trace.rows_size(); ++row) {
    RowSummary& summary = summaries[row];
    const double ms = static_cast<double>(summary.total_ns) / 1e6;
    std::vector<std::string>& cells = table.emplace_back();
    cells = {RowName(trace, row), absl::StrFormat("%.1f ms", ms),
             Share(summary.waiting_ns, summary.total_ns)};
    for (const auto& [name, own_ns] : names) {
      cells.push_back(Share(summary.own_ns[name], summary.total_ns));
    }
  }
  return FormatTable(table);
}

}  // namespace kvec::coordinator::client
