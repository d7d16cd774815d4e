#include "coordinator/cluster/step_tracer.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Two workers, whose clocks a test chooses. Times are milliseconds of the coordinator's.
class StepTracerTest : public testing::Test {
 protected:
  StepTracerTest() {
    std::vector<v1::TraceRow> rows(2);
    rows[0].set_name("w0");
    rows[1].set_name("w1");
    rows[1].set_stage(1);
    tracer_.BeginGroup(rows);
  }

  static absl::Time At(double ms) {
    return absl::FromUnixMillis(1'000'000) + absl::Milliseconds(ms);
  }

  absl::Status Start(uint32_t num_steps, uint64_t id = 1, double ms = 0) {
    v1::TraceRequest request;
    request.set_num_steps(num_steps);
    request.set_max_seconds(10);
    return tracer_.Start(
        id, request, [this](v1::TraceResponse trace) { trace_ = std::move(trace); }, At(ms));
  }

  // A Step that is sent at `ms`; whether it is to be traced.
  bool Send(uint64_t step_id, double ms) {
    v1::Step step;
    step.set_step_id(step_id);
    tracer_.OnComposed(step, At(ms - 1), At(ms));
    return step.trace();
  }

  // A worker's result, which takes a millisecond to be read.
  void Answer(size_t worker, uint64_t step_id, absl::Time begin, absl::Time end, double ms) {
    v1::StepResult result;
    result.set_step_id(step_id);
    v1::TraceSpan& span = *result.add_spans();
    span.set_name("step");
    span.set_step_id(step_id);
    span.set_begin_ns(absl::ToUnixNanos(begin));
    span.set_duration_ns(absl::ToInt64Nanoseconds(end - begin));
    tracer_.OnResult(worker, result, At(ms), At(ms + 1));
  }

  // The trace, if it has ended.
  const v1::TraceResponse* Ended() {
    for (const auto& done : tracer_.TakeEnded()) done();
    return trace_.has_value() ? &*trace_ : nullptr;
  }

  static double MillisecondsOf(int64_t ns) {
    return absl::ToDoubleMilliseconds(absl::FromUnixNanos(ns) - At(0));
  }

  StepTracer tracer_;
  std::optional<v1::TraceResponse> trace_;
};

TEST_F(StepTracerTest, GathersTheStepsAskedForFromAllWorkers) {
  EXPECT_FALSE(Send(1, 5));
  ASSERT_TRUE(Start(2).ok());
  EXPECT_TRUE(Send(2, 10));
  EXPECT_TRUE(Send(3, 20));
  EXPECT_FALSE(Send(4, 30));
  Answer(0, 1, At(5), At(9), 12);  // was on its way
  Answer(0, 2, At(11), At(19), 20);
  Answer(1, 2, At(15), At(22), 23);
  Answer(0, 3, At(21), At(29), 30);
  EXPECT_EQ(Ended(), nullptr);
  Answer(1, 3, At(25), At(32), 33);
  const v1::TraceResponse* trace = Ended();
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->num_steps(), 2u);
  ASSERT_EQ(trace->rows_size(), 3);
  std::vector<std::string> names;
  for (const v1::TraceSpan& span : trace->rows(0).spans()) names.push_back(span.name());
  EXPECT_THAT(names, ElementsAre("compose", "compose", "read result", "read result", "read result",
                                 "read result"));
  EXPECT_EQ(MillisecondsOf(trace->rows(0).spans(0).begin_ns()), 9);
  EXPECT_EQ(trace->rows(0).spans(0).duration_ns(), 1'000'000);
  EXPECT_EQ(trace->rows(2).name(), "w1");
  EXPECT_EQ(trace->rows(2).stage(), 1u);
  ASSERT_EQ(trace->rows(2).spans_size(), 2);
  EXPECT_EQ(MillisecondsOf(trace->rows(2).spans(1).begin_ns()), 25);
  EXPECT_FALSE(tracer_.is_on());
}

TEST_F(StepTracerTest, MovesAClockOnlyAsFarAsCauseAndEffectDemand) {
  ASSERT_TRUE(Start(2).ok());
  Send(1, 10);
  Send(2, 20);
  // Worker 0 is 500 ms ahead; it took at least 1 ms both ways. Worker 1 may be right.
  Answer(0, 1, At(515), At(518), 19);
  Answer(1, 1, At(10.5), At(18.5), 19);
  Answer(0, 2, At(521), At(529), 31);
  Answer(1, 2, At(22), At(29), 31);
  const v1::TraceResponse* trace = Ended();
  ASSERT_NE(trace, nullptr);
  // Between 518 - 19 and 521 - 20: the least.
  EXPECT_DOUBLE_EQ(MillisecondsOf(trace->rows(1).spans(0).begin_ns()), 515 - 499);
  EXPECT_DOUBLE_EQ(MillisecondsOf(trace->rows(1).spans(1).begin_ns()), 521 - 499);
  EXPECT_DOUBLE_EQ(MillisecondsOf(trace->rows(2).spans(0).begin_ns()), 10.5);

  ASSERT_TRUE(Start(1).ok());
  Send(3, 40);
  Answer(0, 3, At(-60), At(-55), 50);  // 100 ms behind at least
  Answer(1, 3, At(41), At(45), 50);
  trace = Ended();
  EXPECT_DOUBLE_EQ(MillisecondsOf(trace->rows(1).spans(0).begin_ns()), 40);
}

TEST_F(StepTracerTest, EndsWithWhatThereIsAtTheDeadlineOrWhenTheGroupIsLost) {
  EXPECT_EQ(tracer_.deadline(), absl::InfiniteFuture());
  ASSERT_TRUE(Start(5).ok());
  EXPECT_EQ(tracer_.deadline(), At(10'000));
  Send(1, 10);
  Send(2, 20);
  for (size_t worker : {0, 1}) Answer(worker, 1, At(11), At(12), 15);
  Answer(0, 2, At(21), At(22), 25);
  tracer_.Finish();
  const v1::TraceResponse* trace = Ended();
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->num_steps(), 1u);
  EXPECT_EQ(trace->rows(1).spans_size(), 2);
  EXPECT_EQ(tracer_.deadline(), absl::InfiniteFuture());

  trace_.reset();
  ASSERT_TRUE(Start(5).ok());
  tracer_.EndGroup();  // one without Steps goes on
  EXPECT_TRUE(tracer_.is_on());
  Send(3, 30);
  tracer_.EndGroup();
  ASSERT_NE(Ended(), nullptr);
  EXPECT_EQ(trace_->num_steps(), 0u);
}

TEST_F(StepTracerTest, RefusesASecondTraceAndRequestsThatAreNone) {
  for (uint32_t num_steps : {0u, 1001u}) {
    const absl::Status status = Start(num_steps);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(num_steps)));
  }
  v1::TraceRequest request;
  request.set_num_steps(1);
  for (double seconds : {0.0, -1.0, 1e9, std::numeric_limits<double>::quiet_NaN()}) {
    request.set_max_seconds(seconds);
    EXPECT_EQ(tracer_.Start(1, request, {}, At(0)).code(), absl::StatusCode::kInvalidArgument);
  }
  ASSERT_TRUE(Start(1, 7).ok());
  EXPECT_EQ(Start(1, 8).code(), absl::StatusCode::kAborted);
  tracer_.Cancel(8);
  EXPECT_TRUE(tracer_.is_on());
  tracer_.Cancel(7);
  EXPECT_FALSE(tracer_.is_on());
  EXPECT_FALSE(Send(1, 10));
  EXPECT_EQ(Ended(), nullptr);
  EXPECT_TRUE(Start(1, 8).ok());
}

}  // namespace
}  // namespace kvec::coordinator::cluster
