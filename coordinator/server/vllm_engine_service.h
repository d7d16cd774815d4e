#ifndef KVEC_COORDINATOR_SERVER_VLLM_ENGINE_SERVICE_H_
#define KVEC_COORDINATOR_SERVER_VLLM_ENGINE_SERVICE_H_

#include <grpcpp/server_context.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "coordinator/server/serving_context.h"
#include "kvec/v1/inference.pb.h"
#include "vllm/engine.grpc.pb.h"

namespace kvec::coordinator::server {

using VllmEngine = ::vllm::grpc::engine::VllmEngine;

// vLLM's engine protocol, as the gateway smg speaks it: what brings OpenAI's HTTP API to kvec. gRPC
// calls it from its threads.
class VllmEngineService final
    : public VllmEngine::WithRawCallbackMethod_Generate<
          VllmEngine::WithCallbackMethod_HealthCheck<VllmEngine::WithCallbackMethod_GetModelInfo<
              VllmEngine::WithCallbackMethod_GetServerInfo<VllmEngine::WithCallbackMethod_GetLoads<
                  VllmEngine::WithCallbackMethod_GetTokenizer<VllmEngine::WithCallbackMethod_Abort<
                      VllmEngine::WithCallbackMethod_SubscribeKvEvents<VllmEngine::Service>>>>>>>> {
 public:
  struct Options {
    std::string served_name;  // by which clients ask for it
    v1::CachePolicy cache;    // of every request; empty: the server's default
    uint32_t max_running_sequences = 0;
  };

  // `serving` must outlive the server that the service is registered with.
  VllmEngineService(ServingContext& serving, Options options);

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<smg::grpc::common::GetTokenizerChunk>* GetTokenizer(
      grpc::CallbackServerContext* context,
      const smg::grpc::common::GetTokenizerRequest* request) override;
  grpc::ServerUnaryReactor* HealthCheck(
      grpc::CallbackServerContext* context, const ::vllm::grpc::engine::HealthCheckRequest* request,
      ::vllm::grpc::engine::HealthCheckResponse* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(
      grpc::CallbackServerContext* context,
      const ::vllm::grpc::engine::GetModelInfoRequest* request,
      ::vllm::grpc::engine::GetModelInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(
      grpc::CallbackServerContext* context,
      const ::vllm::grpc::engine::GetServerInfoRequest* request,
      ::vllm::grpc::engine::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetLoads(grpc::CallbackServerContext* context,
                                     const ::vllm::grpc::engine::GetLoadsRequest* request,
                                     ::vllm::grpc::engine::GetLoadsResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const ::vllm::grpc::engine::AbortRequest* request,
                                  ::vllm::grpc::engine::AbortResponse* response) override;
  grpc::ServerWriteReactor<smg::grpc::common::KvEventBatch>* SubscribeKvEvents(
      grpc::CallbackServerContext* context,
      const smg::grpc::common::SubscribeKvEventsRequest* request) override;

 private:
  ServingContext& serving_;
  const Options options_;
  const absl::Time start_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_VLLM_ENGINE_SERVICE_H_
