#ifndef KVEC_COORDINATOR_SERVER_UNARY_REPLY_H_
#define KVEC_COORDINATOR_SERVER_UNARY_REPLY_H_

#include <grpcpp/server_context.h>

#include "absl/status/status.h"
#include "common/grpc_status.h"

namespace kvec::coordinator::server {

// Ends a unary call whose response is filled in.
inline grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context,
                                       const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_UNARY_REPLY_H_
