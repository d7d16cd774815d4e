#include "coordinator/cluster/step_tracer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::cluster {
namespace {

constexpr double kDefaultSeconds = 60;
constexpr double kMaxSeconds = 3600;

absl::Status CheckRequest(const v1::TraceRequest& request, double seconds) {
  if (request.num_steps() < 1 || request.num_steps() > StepTracer::kMaxSteps) {
    return absl::InvalidArgumentError(absl::StrCat("num_steps: ", request.num_steps(),
                                                   ", must be from 1 to ", StepTracer::kMaxSteps));
  }
  if (!(seconds > 0 && seconds <= kMaxSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_seconds: ", seconds, ", must be above 0 and at most ", kMaxSeconds));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t StepTracer::Clock::AheadBy() const {
  // Where both directions took longer than the clocks are apart, nothing shows that they are.
  return std::clamp<int64_t>(0, std::min(at_least_ns, at_most_ns), at_most_ns);
}

absl::Status StepTracer::Start(uint64_t id, const v1::TraceRequest& request, Done done,
                               absl::Time now) {
  const double seconds = request.has_max_seconds() ? request.max_seconds() : kDefaultSeconds;
  if (absl::Status status = CheckRequest(request, seconds); !status.ok()) return status;
  if (trace_ != nullptr) return absl::AbortedError("another trace is being recorded");
  trace_ = std::make_unique<Trace>();
  trace_->id = id;
  trace_->num_steps = request.num_steps();
  trace_->deadline = now + absl::Seconds(seconds);
  trace_->done = std::move(done);
  trace_->rows.emplace_back().set_name("coordinator");
  return absl::OkStatus();
}

void StepTracer::Cancel(uint64_t id) {
  if (trace_ != nullptr && trace_->id == id) trace_.reset();
}

void StepTracer::EndGroup() {
  // A trace that has no Step yet waits for the next group's.
  if (trace_ != nullptr && trace_->num_marked > 0) Finish();
}

void StepTracer::OnComposed(v1::Step& step, absl::Time begin, absl::Time now) {
  if (trace_ == nullptr || trace_->num_marked == trace_->num_steps) return;
  if (trace_->num_marked++ == 0) {
    trace_->rows.insert(trace_->rows.end(), workers_.begin(), workers_.end());
    trace_->clocks.resize(workers_.size());
  }
  step.set_trace(true);
  trace_->sent[step.step_id()] = now;
  AddSpan("compose", begin, now, step.step_id());
}

void StepTracer::OnResult(size_t worker, const v1::StepResult& result, absl::Time begin,
                          absl::Time now) {
  if (trace_ == nullptr || worker >= trace_->clocks.size()) return;
  const auto sent = trace_->sent.find(result.step_id());
  if (sent == trace_->sent.end()) return;  // was under way when the trace began
  AddSpan("read result", begin, now, result.step_id());
  Clock& clock = trace_->clocks[worker];
  for (const v1::TraceSpan& span : result.spans()) {
    // A Step before this trace may have been sampled.
    if (trace_->sent.count(span.step_id()) == 0) continue;
    *trace_->rows[1 + worker].add_spans() = span;
    if (span.name() != "step") continue;
    clock.at_most_ns =
        std::min(clock.at_most_ns, span.begin_ns() - absl::ToUnixNanos(sent->second));
    clock.at_least_ns = std::max(clock.at_least_ns,
                                 span.begin_ns() + span.duration_ns() - absl::ToUnixNanos(begin));
  }
  if (++trace_->num_results[result.step_id()] < trace_->clocks.size()) return;
  if (++trace_->num_answered == trace_->num_steps) Finish();
}

absl::Time StepTracer::deadline() const {
  return trace_ == nullptr ? absl::InfiniteFuture() : trace_->deadline;
}

void StepTracer::AddSpan(const char* name, absl::Time begin, absl::Time end, uint64_t step_id) {
  v1::TraceSpan& span = *trace_->rows.front().add_spans();
  span.set_name(name);
  span.set_begin_ns(absl::ToUnixNanos(begin));
  span.set_duration_ns(absl::ToInt64Nanoseconds(end - begin));
  span.set_step_id(step_id);
}

void StepTracer::Finish() {
  if (trace_ == nullptr) return;
  const std::unique_ptr<Trace> trace = std::move(trace_);
  v1::TraceResponse response;
  response.set_num_steps(trace->num_answered);
  for (size_t i = 0; i < trace->rows.size(); ++i) {
    v1::TraceRow& row = *response.add_rows() = std::move(trace->rows[i]);
    const int64_t ahead_ns = i == 0 ? 0 : trace->clocks[i - 1].AheadBy();
    for (v1::TraceSpan& span : *row.mutable_spans()) {
      span.set_begin_ns(span.begin_ns() - ahead_ns);
    }
  }
  ended_.push_back([done = std::move(trace->done), response = std::move(response)]() mutable {
    done(std::move(response));
  });
}

}  // namespace kvec::coordinator::cluster
