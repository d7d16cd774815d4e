#ifndef KVEC_COORDINATOR_SERVER_KV_EVENTS_CALL_H_
#define KVEC_COORDINATOR_SERVER_KV_EVENTS_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/server/vllm/kv_event_translation.h"
#include "smg/common.pb.h"

namespace kvec::coordinator::server {

// One SubscribeKvEvents call: passes the prefix cache's changes on, as fast as the client reads,
// until the client leaves or the server ends. Owns itself from Start until gRPC is done with it.
class KvEventsCall final : public grpc::ServerWriteReactor<smg::grpc::common::KvEventBatch>,
                           public std::enable_shared_from_this<KvEventsCall> {
 public:
  explicit KvEventsCall(uint64_t start_sequence_number) : translation_(start_sequence_number) {}

  void Start(scheduler::Scheduler& scheduler);
  // Instead of Start.
  void Refuse(const absl::Status& status);

  // From gRPC.
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override { self_.reset(); }

 private:
  // Starts the next write, or finishes the call, unless a write is under way. Whoever sets writing_
  // or finished_ is the only one to call gRPC.
  void Advance();
  void End(const grpc::Status& status);

  std::shared_ptr<KvEventsCall> self_;
  std::shared_ptr<scheduler::PrefixFeed> feed_;

  std::mutex mutex_;
  vllm::KvEventTranslation translation_ ABSL_GUARDED_BY(mutex_);
  smg::grpc::common::KvEventBatch batch_;  // being written
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<grpc::Status> end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_KV_EVENTS_CALL_H_
