#include "coordinator/server/trace_call.h"

#include <utility>

#include "common/grpc_status.h"

namespace kvec::coordinator::server {

void TraceCall::Start(const v1::TraceRequest& request) {
  self_ = shared_from_this();
  const absl::StatusOr<uint64_t> id = pump_.StartTrace(
      request, [self = self_](v1::TraceResponse trace) { self->End(std::move(trace)); });
  if (!id.ok()) {
    End(id.status());
    return;
  }
  bool has_left = false;
  {
    const std::lock_guard lock(mutex_);
    trace_id_ = *id;
    has_left = ended_;
  }
  if (has_left) pump_.CancelTrace(*id);  // while the trace was being started
}

void TraceCall::OnCancel() {
  uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    id = trace_id_;
  }
  if (id != 0) pump_.CancelTrace(id);
  End(absl::CancelledError("the client left"));
}

void TraceCall::End(absl::StatusOr<v1::TraceResponse> trace) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(ended_, true)) return;
  }
  if (trace.ok()) response_ = *std::move(trace);
  Finish(ToGrpcStatus(trace.status()));
}

}  // namespace kvec::coordinator::server
