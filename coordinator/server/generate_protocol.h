#ifndef KVEC_COORDINATOR_SERVER_GENERATE_PROTOCOL_H_
#define KVEC_COORDINATOR_SERVER_GENERATE_PROTOCOL_H_

#include <grpcpp/support/byte_buffer.h>

#include <deque>

#include "absl/status/statusor.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// The messages of one Generate call: our own service's, or another one's that means the same.
// GenerateCall makes and owns one per call, and calls it from one thread at a time.
class GenerateProtocol {
 public:
  virtual ~GenerateProtocol() = default;

  // Once, before Append. INVALID_ARGUMENT names the field.
  virtual absl::StatusOr<v1::GenerateRequest> Parse(const grpc::ByteBuffer& bytes) = 0;

  // Appends what is to be sent for `response`, the stream's next message; perhaps nothing.
  virtual void Append(const v1::GenerateResponse& response,
                      std::deque<grpc::ByteBuffer>& messages) = 0;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_GENERATE_PROTOCOL_H_
