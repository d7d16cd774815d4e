#include "coordinator/client/trace_summary.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/client/trace_maker.h"

namespace kvec::coordinator::client {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(TraceSummaryTest, ASpansOwnTimeIsWhatNoneInsideItCovers) {
  v1::TraceRow row;
  AddSpan(row, "idle", 100, 130);
  AddSpan(row, "step", 140, 240);
  AddSpan(row, "await tokens", 140, 160);
  AddSpan(row, "receive", 145, 155);
  AddSpan(row, "layers", 160, 220);
  AddSpan(row, "all-reduce", 170, 180);
  AddSpan(row, "all-reduce", 190, 195);
  const RowSummary summary = SummarizeRow(row);
  EXPECT_EQ(summary.total_ns, 140);
  EXPECT_EQ(summary.waiting_ns, 30 + 20);
  EXPECT_EQ(summary.own_ns, (std::map<std::string, int64_t>{{"", 10},
                                                            {"idle", 30},
                                                            {"step", 20},
                                                            {"await tokens", 10},
                                                            {"receive", 10},
                                                            {"layers", 45},
                                                            {"all-reduce", 15}}));
}

// Fills [begin, end) with spans in spans, and tells what each name owns, nanosecond by nanosecond.
void AddRandomSpans(int64_t begin, int64_t end, int depth, std::mt19937& random, v1::TraceRow& row,
                    std::vector<std::string>& owner) {
  for (int64_t at = begin; at < end;) {
    at += static_cast<int64_t>(random() % 5);
    const int64_t span_end = std::min<int64_t>(end, at + 1 + static_cast<int64_t>(random() % 30));
    if (at >= span_end) return;
    const std::string name(1, static_cast<char>('a' + random() % 4));
    AddSpan(row, name, at, span_end);
    for (int64_t t = at; t < span_end; ++t) owner[t] = name;
    if (depth > 0) AddRandomSpans(at, span_end, depth - 1, random, row, owner);
    at = span_end;
  }
}

TEST(TraceSummaryTest, OwnTimesAddUpToTheWhole) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    v1::TraceRow row;
    AddSpan(row, "first", 0, 1);
    std::vector<std::string> owner(500);
    owner[0] = "first";
    AddRandomSpans(1, 500, 3, random, row, owner);
    const RowSummary summary = SummarizeRow(row);
    std::map<std::string, int64_t> expected = {{"", 0}};
    for (int64_t t = 0; t < summary.total_ns; ++t) ++expected[owner[t]];
    std::map<std::string, int64_t> got;
    for (const auto& [name, own_ns] : summary.own_ns) {
      if (own_ns > 0 || name.empty()) got[name] = own_ns;
    }
    EXPECT_EQ(got, expected) << seed;
  }
}

TEST(TraceSummaryTest, TheTableHasAllRowsAndTheWidestSpansFirst) {
  v1::TraceResponse trace;
  trace.add_rows()->set_name("coordinator");
  v1::TraceRow& worker = *trace.add_rows();
  worker.set_name("w0");
  AddSpan(worker, "idle", 0, 1'000'000);
  AddSpan(worker, "step", 1'000'000, 4'000'000);
  const std::string table = TraceSummary(trace);
  EXPECT_THAT(table, HasSubstr("coordinator"));
  EXPECT_THAT(table.substr(0, table.find('\n')), MatchesRegex(" *time +waiting +step +idle.*"));
  EXPECT_THAT(table, HasSubstr("4.0 ms   25.0 %  75.0 %  25.0 %"));
}

}  // namespace
}  // namespace kvec::coordinator::client
