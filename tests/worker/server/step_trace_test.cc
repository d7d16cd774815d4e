#include "worker/server/step_trace.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Step MakeStep(uint64_t id, bool is_traced) {
  v1::Step step;
  step.set_step_id(id);
  step.set_trace(is_traced);
  v1::SequenceWork& chunk = *step.add_work();
  for (uint32_t token : {5, 6, 7}) chunk.add_token_ids(token);
  step.add_work();  // a decode
  step.add_readings()->set_num_tokens(10);
  return step;
}

// As the worker does it; returns what the result tells.
v1::StepResult RunStep(const v1::Step& step, StepTrace& step_trace) {
  v1::StepResult result;
  step_trace.BeginStep(step);
  const trace::ScopedRecording recording(step_trace.recorder());
  { const trace::ScopedSpan span("layers"); }
  step_trace.EndStep(step, result);
  const trace::ScopedSpan answer("answer");
  return result;
}

std::vector<std::string> Names(const v1::StepResult& result) {
  std::vector<std::string> names;
  for (const v1::TraceSpan& span : result.spans()) names.push_back(span.name());
  return names;
}

TEST(StepTraceTest, TellsWhatCameBetweenTwoTracedSteps) {
  StepTrace step_trace;
  const v1::StepResult first = RunStep(MakeStep(3, true), step_trace);
  EXPECT_THAT(Names(first), ElementsAre("step", "layers"));
  EXPECT_EQ(first.spans(0).num_rows(), 14u);
  EXPECT_EQ(first.spans(1).num_rows(), 0u);
  const v1::StepResult second = RunStep(MakeStep(4, true), step_trace);
  ASSERT_THAT(Names(second), ElementsAre("answer", "idle", "step", "layers"));
  EXPECT_EQ(second.spans(0).step_id(), 3u);
  EXPECT_EQ(second.spans(2).step_id(), 4u);
  EXPECT_EQ(second.spans(2).num_rows(), 14u);
  for (int i = 1; i < 3; ++i) {
    EXPECT_LE(second.spans(i - 1).begin_ns() + second.spans(i - 1).duration_ns(),
              second.spans(i).begin_ns());
  }
  // The last answer's end is idle's begin.
  EXPECT_EQ(second.spans(0).begin_ns() + second.spans(0).duration_ns(), second.spans(1).begin_ns());
}

TEST(StepTraceTest, TellsNothingOfStepsThatAreNotTraced) {
  StepTrace step_trace;
  EXPECT_THAT(Names(RunStep(MakeStep(1, false), step_trace)), IsEmpty());
  EXPECT_THAT(Names(RunStep(MakeStep(2, true), step_trace)), ElementsAre("step", "layers"));
  EXPECT_THAT(Names(RunStep(MakeStep(3, false), step_trace)), IsEmpty());
  // The gap is no idle time: Step 3 was in it.
  EXPECT_THAT(Names(RunStep(MakeStep(4, true), step_trace)), ElementsAre("step", "layers"));
}

TEST(StepTraceTest, ForgetsAStepThatFailed) {
  StepTrace step_trace;
  step_trace.BeginStep(MakeStep(1, true));
  const v1::StepResult result = RunStep(MakeStep(2, true), step_trace);
  EXPECT_THAT(Names(result), ElementsAre("step", "layers"));
}

}  // namespace
}  // namespace kvec::worker::server
