#include "worker/server/step_trace.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"

namespace kvec::worker::server {
namespace {

uint32_t NumRows(const v1::Step& step) {
  int num_rows = 0;
  for (const v1::SequenceWork& work : step.work()) {
    num_rows += work.token_ids().empty() ? 1 : work.token_ids_size();
  }
  for (const v1::SequenceReading& reading : step.readings()) {
    num_rows += static_cast<int>(reading.num_tokens());
  }
  return static_cast<uint32_t>(num_rows);
}

}  // namespace

void StepTrace::BeginStep(const v1::Step& step) {
  is_on_ = step.trace();
  std::vector<trace::SpanRecorder::Span> answer = recorder_.Take();
  if (!std::exchange(is_answered_, false)) answer.clear();
  if (!is_on_) return;
  for (const trace::SpanRecorder::Span& span : answer) recorder_.Add(span);
  if (!answer.empty()) {
    recorder_.Add(
        {.name = "idle", .begin_ns = answer.back().end_ns, .end_ns = absl::GetCurrentTimeNanos()});
  }
  step_ = recorder_.Begin("step");
  recorder_.at(step_).num_rows = NumRows(step);
}

void StepTrace::EndStep(const v1::Step& step, v1::StepResult& result) {
  if (!is_on_) return;
  recorder_.End(step_);
  size_t place = 0;
  for (const trace::SpanRecorder::Span& span : recorder_.Take()) {
    v1::TraceSpan& told = *result.add_spans();
    told.set_name(span.name);
    told.set_begin_ns(span.begin_ns);
    told.set_duration_ns(span.end_ns - span.begin_ns);
    told.set_step_id(place < step_ ? last_step_id_ : step.step_id());
    told.set_sent_bytes(span.sent_bytes);
    told.set_num_rows(span.num_rows);
    ++place;
  }
  last_step_id_ = step.step_id();
  is_answered_ = true;
}

}  // namespace kvec::worker::server
