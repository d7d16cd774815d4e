#ifndef KVEC_COORDINATOR_SERVER_GENERATE_CALL_H_
#define KVEC_COORDINATOR_SERVER_GENERATE_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/scheduler/request.h"
#include "coordinator/server/generate_protocol.h"
#include "coordinator/server/response_queue.h"
#include "coordinator/server/serving_context.h"

namespace kvec::coordinator::server {

// One Generate call: a gRPC stream at one end, a scheduler's sink at the other. The sink only
// queues, so a client that reads slowly delays nobody; gRPC's threads take messages from the queue
// as the client reads them. Owns itself from Start until gRPC is done with it.
class GenerateCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public scheduler::RequestSink,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  GenerateCall(ServingContext& serving, std::unique_ptr<GenerateProtocol> protocol)
      : serving_(serving), protocol_(std::move(protocol)) {}

  // Has the request checked and handed to the scheduler by another thread; the call ends with the
  // reason when that fails. A refusal that is worth another try carries grpc-retry-pushback-ms.
  void Start(grpc::CallbackServerContext& context, const grpc::ByteBuffer& request);

  // From gRPC.
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  // From the scheduler.
  void OnPromptLogProbs(absl::Span<const v1::TokenLogProbs> logprobs) override;
  scheduler::Verdict OnToken(uint32_t choice, int32_t token,
                             const v1::TokenLogProbs* logprobs) override;
  void OnChoiceFinished(uint32_t choice, v1::FinishReason reason) override;
  void OnDone(const absl::Status& status, const v1::Usage& usage) override;

 private:
  absl::Status Submit(const grpc::ByteBuffer& bytes, absl::Time arrival);
  // Ends the call with this status after the queued messages.
  void End(const absl::Status& status);
  // Starts the next write, or finishes the call, unless a write is under way. Called without the
  // lock: whoever sets writing_ or finished_ is the only one to call gRPC.
  void Advance();
  // The next message to write; false: there is none for now.
  bool TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ServingContext& serving_;
  grpc::CallbackServerContext* context_ = nullptr;  // valid until the call is finished
  const std::unique_ptr<GenerateProtocol> protocol_;
  std::shared_ptr<GenerateCall> self_;
  bool counted_ = false;  // by serving_.calls
  absl::Time deadline_ = absl::InfiniteFuture();
  std::string trace_id_;       // of the call, from Start on
  grpc::ByteBuffer outgoing_;  // being written

  std::mutex mutex_;
  std::string request_id_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ResponseQueue> queue_ ABSL_GUARDED_BY(mutex_);  // null until the request is valid
  std::deque<grpc::ByteBuffer> messages_ ABSL_GUARDED_BY(mutex_);  // taken from queue_
  bool submitted_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_GENERATE_CALL_H_
