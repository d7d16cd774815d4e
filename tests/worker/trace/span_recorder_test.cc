#include "worker/trace/span_recorder.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::trace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Names(const std::vector<SpanRecorder::Span>& spans) {
  std::vector<std::string> names;
  for (const SpanRecorder::Span& span : spans) names.push_back(span.name);
  return names;
}

void Work() {
  const ScopedSpan outer("outer");
  { const ScopedSpan inner("first", 17); }
  { const ScopedSpan inner("second"); }
}

TEST(SpanRecorderTest, SpansComeByTheirBeginsAndNest) {
  SpanRecorder recorder;
  const int64_t before = absl::GetCurrentTimeNanos();
  {
    const ScopedRecording recording(&recorder);
    Work();
  }
  const int64_t after = absl::GetCurrentTimeNanos();
  const std::vector<SpanRecorder::Span> spans = recorder.Take();
  ASSERT_THAT(Names(spans), ElementsAre("outer", "first", "second"));
  EXPECT_LE(before, spans[0].begin_ns);
  EXPECT_LE(spans[0].begin_ns, spans[1].begin_ns);
  EXPECT_LE(spans[1].begin_ns, spans[1].end_ns);
  EXPECT_LE(spans[1].end_ns, spans[2].begin_ns);
  EXPECT_LE(spans[2].end_ns, spans[0].end_ns);
  EXPECT_LE(spans[0].end_ns, after);
  EXPECT_EQ(spans[1].sent_bytes, 17u);
  EXPECT_EQ(spans[2].sent_bytes, 0u);
  EXPECT_THAT(recorder.Take(), IsEmpty());
}

TEST(SpanRecorderTest, NothingIsRecordedWithoutARecorder) {
  SpanRecorder recorder;
  Work();
  {
    const ScopedRecording recording(&recorder);
    const ScopedRecording off(nullptr);
    Work();
  }
  Work();
  EXPECT_THAT(recorder.Take(), IsEmpty());
}

TEST(SpanRecorderTest, ARecorderIsOfOneThreadAndTheOneBeforeComesBack) {
  SpanRecorder outer;
  SpanRecorder inner;
  const ScopedRecording recording(&outer);
  std::thread(Work).join();
  {
    const ScopedRecording other(&inner);
    Work();
  }
  { const ScopedSpan span("last"); }
  EXPECT_THAT(Names(inner.Take()), ElementsAre("outer", "first", "second"));
  EXPECT_THAT(Names(outer.Take()), ElementsAre("last"));
}

}  // namespace
}  // namespace kvec::worker::trace
