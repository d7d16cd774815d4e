#ifndef KVEC_COORDINATOR_SERVER_TRACE_CALL_H_
#define KVEC_COORDINATOR_SERVER_TRACE_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/cluster/step_pump.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// One Trace call: waits for the pump's trace, and gives it up when the client leaves. Owns itself
// from Start until gRPC is done with it.
class TraceCall final : public grpc::ServerUnaryReactor,
                        public std::enable_shared_from_this<TraceCall> {
 public:
  // gRPC owns `response` until OnDone.
  TraceCall(cluster::StepPump& pump, v1::TraceResponse& response)
      : pump_(pump), response_(response) {}

  void Start(const v1::TraceRequest& request);

  // From gRPC.
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  // Only the first one counts.
  void End(absl::StatusOr<v1::TraceResponse> trace);

  cluster::StepPump& pump_;
  v1::TraceResponse& response_;
  std::shared_ptr<TraceCall> self_;

  std::mutex mutex_;
  uint64_t trace_id_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: not known yet
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_TRACE_CALL_H_
