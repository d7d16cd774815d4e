#include "coordinator/client/header_interceptor.h"

namespace kvec::coordinator::client {
namespace {

class HeaderInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit HeaderInterceptor(const HeaderInterceptorFactory::Headers& headers)
      : headers_(headers) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert(headers_.begin(), headers_.end());
    }
    methods->Proceed();
  }

 private:
  const HeaderInterceptorFactory::Headers& headers_;
};

}  // namespace

grpc::experimental::Interceptor* HeaderInterceptorFactory::CreateClientInterceptor(
    grpc::experimental::ClientRpcInfo* info) {
  return new HeaderInterceptor(headers_);  // gRPC deletes it
}

}  // namespace kvec::coordinator::client
