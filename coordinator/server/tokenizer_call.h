#ifndef KVEC_COORDINATOR_SERVER_TOKENIZER_CALL_H_
#define KVEC_COORDINATOR_SERVER_TOKENIZER_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "coordinator/server/served_model.h"
#include "smg/common.pb.h"

namespace kvec::coordinator::server {

// The archive that GetTokenizer sends: megabytes, which gateways ask for when they start. It is
// made when it is wanted, and there once for all calls that send it. Thread-safe.
class TokenizerBundle {
 public:
  struct Archive {
    std::string bytes;
    std::string sha256;  // hex
  };

  // `model` must outlive it.
  explicit TokenizerBundle(const ServedModel& model) : model_(model) {}

  // Takes up to a second.
  absl::StatusOr<std::shared_ptr<const Archive>> Get();

 private:
  const ServedModel& model_;
  std::mutex mutex_;
  std::weak_ptr<const Archive> archive_ ABSL_GUARDED_BY(mutex_);
};

// One GetTokenizer call. Owns itself from Start until gRPC is done with it.
class TokenizerCall final : public grpc::ServerWriteReactor<smg::grpc::common::GetTokenizerChunk>,
                            public std::enable_shared_from_this<TokenizerCall> {
 public:
  // From a thread that may take its time.
  void Start(TokenizerBundle& bundle);
  // Instead of Start.
  void Refuse(const absl::Status& status);
  // Before any of these, on gRPC's thread.
  void Hold() { self_ = shared_from_this(); }

  void OnWriteDone(bool ok) override;
  void OnDone() override { self_.reset(); }

 private:
  void SendNext();

  std::shared_ptr<TokenizerCall> self_;
  std::shared_ptr<const TokenizerBundle::Archive> archive_;
  size_t num_sent_bytes_ = 0;
  smg::grpc::common::GetTokenizerChunk chunk_;  // being written
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_TOKENIZER_CALL_H_
