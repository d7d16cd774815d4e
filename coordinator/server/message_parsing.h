#ifndef KVEC_COORDINATOR_SERVER_MESSAGE_PARSING_H_
#define KVEC_COORDINATOR_SERVER_MESSAGE_PARSING_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace kvec::coordinator::server {

// gRPC answers a request that does not parse with INTERNAL and no message. Text from users often is
// not UTF-8, so methods that take text get their bytes unparsed and parse them here:
// INVALID_ARGUMENT, naming the string field that is not UTF-8 if there is one.
absl::Status ParseMessage(grpc::ByteBuffer bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_MESSAGE_PARSING_H_
