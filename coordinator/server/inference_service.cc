#include "coordinator/server/inference_service.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "coordinator/server/cache_policies.h"
#include "coordinator/server/generate_call.h"
#include "coordinator/server/message_parsing.h"
#include "coordinator/server/prompt_encoding.h"
#include "coordinator/server/trace_call.h"
#include "coordinator/server/unary_reply.h"

namespace kvec::coordinator::server {
namespace {

constexpr uint32_t kMaxRequestStatuses = 1000;

class InferenceProtocol final : public GenerateProtocol {
 public:
  absl::StatusOr<v1::GenerateRequest> Parse(const grpc::ByteBuffer& bytes) override {
    v1::GenerateRequest request;
    KVEC_RETURN_IF_ERROR(ParseMessage(bytes, &request));
    return request;
  }
  void Append(const v1::GenerateResponse& response,
              std::deque<grpc::ByteBuffer>& messages) override {
    messages.push_back(SerializeMessage(response));
  }
};

// Answers the call by `work`, on another thread.
grpc::ServerUnaryReactor* ReplyLater(grpc::CallbackServerContext* context, TaskPool& tasks,
                                     std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status status =
      tasks.Post([reactor, work = std::move(work)] { reactor->Finish(ToGrpcStatus(work())); });
  if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

absl::Status TokenizeBytes(const grpc::ByteBuffer& bytes, const ServedModel& model,
                           grpc::ByteBuffer* response) {
  v1::TokenizeRequest request;
  KVEC_RETURN_IF_ERROR(ParseMessage(bytes, &request));
  KVEC_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, EncodePrompt(request, model));
  v1::TokenizeResponse message;
  message.mutable_token_ids()->Assign(ids.begin(), ids.end());
  *response = SerializeMessage(message);
  return absl::OkStatus();
}

absl::Status DetokenizeIds(const v1::DetokenizeRequest& request, const ServedModel& model,
                           v1::DetokenizeResponse* response) {
  KVEC_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                        CheckTokenIds("token_ids", request.token_ids(), model));
  response->set_text(model.tokenizer->Decode(ids, request.skip_special_tokens()));
  return absl::OkStatus();
}

void AddReplica(const scheduler::Scheduler& replica, v1::GetStatusResponse& response) {
  const scheduler::SchedulerCounts counts = replica.counts();
  v1::ReplicaStatus& status = *response.add_replicas();
  status.set_serving(replica.readiness() == scheduler::Scheduler::Readiness::kServing);
  status.set_num_requests_running(counts.num_running);
  status.set_num_requests_waiting(counts.num_waiting);
  status.set_waiting_prompt_tokens(counts.waiting_prompt_tokens);
  status.set_num_tokens(counts.num_tokens);
}

}  // namespace

InferenceService::InferenceService(ServingContext& serving)
    : serving_(serving), start_(absl::Now()) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  const auto call = std::make_shared<GenerateCall>(serving_, std::make_unique<InferenceProtocol>());
  call->Start(*context, *request);
  return call.get();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  return ReplyLater(context, serving_.tasks, [request, response, &model = serving_.model] {
    return TokenizeBytes(*request, model, response);
  });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  return ReplyLater(context, serving_.tasks, [request, response, &model = serving_.model] {
    return DetokenizeIds(*request, model, response);
  });
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* request,
                                                     v1::GetModelResponse* response) {
  const ServedModel& model = serving_.model;
  const ModelConfig& config = model.config;
  response->set_name(model.name);
  response->set_family(std::string(ModelFamilyName(config.family)));
  response->set_context_length(config.context_length);
  response->set_vocab_size(config.vocab_size);
  response->set_num_layers(config.num_layers);
  response->set_num_heads(config.num_heads);
  response->set_num_kv_heads(config.num_kv_heads);
  response->set_head_dim(config.head_dim);
  response->set_hidden_size(config.hidden_size);
  for (int32_t id : model.tokenizer->eos_ids()) response->add_eos_token_ids(id);
  if (model.tokenizer->bos_id().has_value()) {
    response->set_bos_token_id(*model.tokenizer->bos_id());
  }
  response->set_chat_template(model.tokenizer_data.chat_template);
  response->set_fingerprint(model.fingerprint);
  for (std::string& name : CachePolicyNames()) response->add_cache_policies(std::move(name));
  // Checked when the server was started.
  *response->mutable_default_cache_policy() =
      ResolveCachePolicy(v1::CachePolicy(), serving_.default_cache).value();
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetStatus(grpc::CallbackServerContext* context,
                                                      const v1::GetStatusRequest* request,
                                                      v1::GetStatusResponse* response) {
  const scheduler::SchedulerCounts counts = serving_.replicas.counts();
  response->set_version(std::string(Version()));
  response->set_serving(serving_.pump.group_ready());
  response->set_num_requests_running(counts.num_running);
  response->set_num_requests_waiting(counts.num_waiting);
  response->set_waiting_prompt_tokens(counts.waiting_prompt_tokens);
  for (v1::WorkerStatus& status : serving_.pump.WorkerStatuses()) {
    *response->add_workers() = std::move(status);
  }
  response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - start_));
  response->set_steps(counts.steps);
  response->set_generated_tokens(counts.generated_tokens);
  response->set_prompt_tokens(counts.prompt_tokens);
  response->set_preemptions(counts.preemptions);
  response->set_prefix_cache_queries(counts.prefix_cache_queries);
  response->set_prefix_cache_hits(counts.prefix_cache_hits);
  response->set_num_sessions(counts.num_sessions);
  for (v1::RequestStatus& status : serving_.replicas.RequestStatuses(
           std::min(request->max_requests(), kMaxRequestStatuses), absl::Now())) {
    *response->add_requests() = std::move(status);
  }
  for (size_t i = 0; i < serving_.pump.num_replicas(); ++i) {
    AddReplica(*serving_.replicas.replicas()[i], *response);
  }
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::Trace(grpc::CallbackServerContext* context,
                                                  const v1::TraceRequest* request,
                                                  v1::TraceResponse* response) {
  const auto call = std::make_shared<TraceCall>(serving_.pump, *response);
  call->Start(*request);
  return call.get();
}

}  // namespace kvec::coordinator::server
