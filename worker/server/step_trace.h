#ifndef KVEC_WORKER_SERVER_STEP_TRACE_H_
#define KVEC_WORKER_SERVER_STEP_TRACE_H_

#include <cstddef>

#include "kvec/v1/cluster.pb.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::server {

// The spans of the Steps that the coordinator traces. Around each Step's execution come the spans
// "step" and, when the Step before was traced too, "idle" since that one was answered. What happens
// after a Step's result is made is told with the next one's. Owned by the worker, called from its
// executing thread.
class StepTrace {
 public:
  void BeginStep(const v1::Step& step);
  void EndStep(const v1::Step& step, v1::StepResult& result);

  // Of the Step that has begun last; null: it is not traced.
  trace::SpanRecorder* recorder() { return is_on_ ? &recorder_ : nullptr; }

 private:
  bool is_on_ = false;
  trace::SpanRecorder recorder_;
  size_t step_ = 0;            // the place of the Step's span
  bool is_answered_ = false;   // the recorder holds the answer's spans
  uint64_t last_step_id_ = 0;  // of that answer
};

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_STEP_TRACE_H_
