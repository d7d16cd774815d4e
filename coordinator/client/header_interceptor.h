#ifndef KVEC_COORDINATOR_CLIENT_HEADER_INTERCEPTOR_H_
#define KVEC_COORDINATOR_CLIENT_HEADER_INTERCEPTOR_H_

#include <grpcpp/support/client_interceptor.h>

#include <map>
#include <string>
#include <utility>

namespace kvec::coordinator::client {

// Puts headers on every call of a channel. gRPC's own credentials for tokens don't work on a
// channel that is not encrypted.
class HeaderInterceptorFactory final
    : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  using Headers = std::map<std::string, std::string>;

  explicit HeaderInterceptorFactory(Headers headers) : headers_(std::move(headers)) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo* info) override;

 private:
  const Headers headers_;  // outlives the interceptors: the channel owns this
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_HEADER_INTERCEPTOR_H_
