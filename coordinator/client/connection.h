#ifndef KVEC_COORDINATOR_CLIENT_CONNECTION_H_
#define KVEC_COORDINATOR_CLIENT_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/client/connection_options.h"
#include "grpcpp/grpcpp.h"
#include "kvec/v1/inference.grpc.pb.h"

namespace kvec::coordinator::client {

// One coordinator, reached over a channel that reconnects by itself. Thread-safe.
class Connection {
 public:
  // Dials on the first call. INVALID_ARGUMENT or the system's error when one of the files can't be
  // used, or when a token would go to another machine unencrypted.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const ConnectionOptions& options);

  v1::Inference::StubInterface& inference() const { return *inference_; }
  const std::string& target() const { return target_; }

  absl::StatusOr<v1::GetModelResponse> GetModel() const;
  // With at most `max_requests` of its requests.
  absl::StatusOr<v1::GetStatusResponse> GetStatus(uint32_t max_requests = 0) const;

  // One text for all of `token_ids`.
  absl::StatusOr<std::string> Detokenize(absl::Span<const uint32_t> token_ids) const;

  // Returns as soon as the coordinator's health says that a group of workers serves; it need not
  // even be listening yet. UNAVAILABLE after `timeout`, with what was last seen.
  absl::Status WaitUntilServing(absl::Duration timeout) const;

 private:
  Connection(const std::string& target, std::shared_ptr<grpc::Channel> channel);

  const std::string target_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Inference::StubInterface> inference_;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_CONNECTION_H_
