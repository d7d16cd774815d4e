#ifndef KVEC_COORDINATOR_SERVER_INFERENCE_SERVICE_H_
#define KVEC_COORDINATOR_SERVER_INFERENCE_SERVICE_H_

#include <grpcpp/server_context.h>

#include "absl/time/time.h"
#include "coordinator/server/serving_context.h"
#include "kvec/v1/inference.grpc.pb.h"

namespace kvec::coordinator::server {

// The public service. gRPC calls it from its threads. Methods that take text get it unparsed, see
// ParseMessage.
class InferenceService final
    : public v1::Inference::WithRawCallbackMethod_Generate<
          v1::Inference::WithRawCallbackMethod_Tokenize<
              v1::Inference::WithCallbackMethod_Detokenize<
                  v1::Inference::WithCallbackMethod_GetModel<
                      v1::Inference::WithCallbackMethod_GetStatus<
                          v1::Inference::WithCallbackMethod_Trace<v1::Inference::Service>>>>>> {
 public:
  // `serving` must outlive the server that the service is registered with.
  explicit InferenceService(ServingContext& serving);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* Trace(grpc::CallbackServerContext* context,
                                  const v1::TraceRequest* request,
                                  v1::TraceResponse* response) override;

 private:
  ServingContext& serving_;
  const absl::Time start_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_INFERENCE_SERVICE_H_
