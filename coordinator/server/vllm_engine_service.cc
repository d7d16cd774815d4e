#include "coordinator/server/vllm_engine_service.h"

#include <deque>
#include <memory>
#include <optional>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "coordinator/server/generate_call.h"
#include "coordinator/server/kv_events_call.h"
#include "coordinator/server/message_parsing.h"
#include "coordinator/server/unary_reply.h"
#include "coordinator/server/vllm/request_translation.h"
#include "coordinator/server/vllm/response_translation.h"
#include "coordinator/server/vllm/tokenizer_bundle.h"

namespace kvec::coordinator::server {
namespace {

namespace engine = ::vllm::grpc::engine;

class VllmProtocol final : public GenerateProtocol {
 public:
  VllmProtocol(const v1::CachePolicy& cache, const ServedModel& model)
      : cache_(cache), model_(model) {}

  absl::StatusOr<v1::GenerateRequest> Parse(const grpc::ByteBuffer& bytes) override {
    engine::GenerateRequest request;
    KVEC_RETURN_IF_ERROR(ParseMessage(bytes, &request));
    const std::optional<int32_t> bos_id =
        model_.tokenizer_data.add_bos ? model_.tokenizer->bos_id() : std::nullopt;
    KVEC_ASSIGN_OR_RETURN(v1::GenerateRequest translated, vllm::TranslateRequest(request, bos_id));
    *translated.mutable_cache() = cache_;
    responses_.emplace(request, static_cast<uint32_t>(translated.token_ids().ids_size()));
    return translated;
  }

  void Append(const v1::GenerateResponse& response,
              std::deque<grpc::ByteBuffer>& messages) override {
    for (const engine::GenerateResponse& message : responses_->Translate(response)) {
      messages.push_back(SerializeMessage(message));
    }
  }

 private:
  const v1::CachePolicy& cache_;
  const ServedModel& model_;
  std::optional<vllm::ResponseTranslation> responses_;  // from Parse on
};

}  // namespace

VllmEngineService::VllmEngineService(ServingContext& serving, Options options)
    : serving_(serving), options_(std::move(options)), start_(absl::Now()) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* VllmEngineService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  const auto call = std::make_shared<GenerateCall>(
      serving_, std::make_unique<VllmProtocol>(options_.cache, serving_.model));
  call->Start(*context, *request);
  return call.get();
}

grpc::ServerWriteReactor<smg::grpc::common::GetTokenizerChunk>* VllmEngineService::GetTokenizer(
    grpc::CallbackServerContext* context, const smg::grpc::common::GetTokenizerRequest* request) {
  const auto call = std::make_shared<TokenizerCall>();
  call->Hold();
  const absl::Status status =
      serving_.tasks.Post([call, &bundle = serving_.tokenizer_bundle] { call->Start(bundle); });
  if (!status.ok()) call->Refuse(status);
  return call.get();
}

grpc::ServerWriteReactor<smg::grpc::common::KvEventBatch>* VllmEngineService::SubscribeKvEvents(
    grpc::CallbackServerContext* context,
    const smg::grpc::common::SubscribeKvEventsRequest* request) {
  const auto call = std::make_shared<KvEventsCall>(request->start_sequence_number());
  if (serving_.pump.num_replicas() > 1) {
    call->Refuse(absl::UnimplementedError("there are several prefix caches, of one replica each"));
  } else {
    call->Start(*serving_.replicas.replicas().front());
  }
  return call.get();
}

grpc::ServerUnaryReactor* VllmEngineService::HealthCheck(grpc::CallbackServerContext* context,
                                                         const engine::HealthCheckRequest* request,
                                                         engine::HealthCheckResponse* response) {
  if (serving_.health.is_draining()) {
    return Reply(context, absl::UnavailableError("the coordinator is shutting down"));
  }
  // Not an error: to a gateway that starts before the workers do, it would mean that there is no
  // engine, and the gateway looks again after 30 s only.
  response->set_healthy(serving_.health.is_group_ready());
  if (!response->healthy()) response->set_message("no group of workers is ready");
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* VllmEngineService::GetModelInfo(
    grpc::CallbackServerContext* context, const engine::GetModelInfoRequest* request,
    engine::GetModelInfoResponse* response) {
  const ServedModel& model = serving_.model;
  const vllm::FamilyNames names = vllm::NamesOf(model.config.family);
  // Where our files lie is nobody's business.
  response->set_model_path(options_.served_name);
  response->set_served_model_name(options_.served_name);
  response->set_is_generation(true);
  response->set_max_context_length(model.config.context_length);
  response->set_max_req_input_len(model.config.context_length - 1);
  response->set_vocab_size(model.config.vocab_size);
  response->set_model_type(std::string(names.model_type));
  response->add_architectures(std::string(names.architecture));
  const absl::Span<const int32_t> eos_ids = model.tokenizer->eos_ids();
  response->mutable_eos_token_ids()->Assign(eos_ids.begin(), eos_ids.end());
  if (!eos_ids.empty()) response->set_pad_token_id(eos_ids[0]);
  response->set_bos_token_id(model.tokenizer->bos_id().value_or(0));
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* VllmEngineService::GetServerInfo(
    grpc::CallbackServerContext* context, const engine::GetServerInfoRequest* request,
    engine::GetServerInfoResponse* response) {
  const scheduler::SchedulerCounts counts = serving_.replicas.counts();
  response->set_active_requests(counts.num_running + counts.num_waiting);
  response->set_uptime_seconds(absl::ToDoubleSeconds(absl::Now() - start_));
  response->set_server_type("vllm-grpc");  // the protocol's name
  response->set_data_parallel_size(static_cast<int32_t>(serving_.pump.num_replicas()));
  response->set_block_size(scheduler::kPageTokens);
  response->set_max_num_seqs(static_cast<int32_t>(options_.max_running_sequences));
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* VllmEngineService::GetLoads(grpc::CallbackServerContext* context,
                                                      const engine::GetLoadsRequest* request,
                                                      engine::GetLoadsResponse* response) {
  const Metrics::Snapshot snapshot = serving_.metrics.TakeSnapshot();
  response->set_timestamp(absl::FormatTime(absl::RFC3339_sec, absl::Now(), absl::UTCTimeZone()));
  response->set_version(std::string(Version()));
  response->set_dp_rank_count(static_cast<int32_t>(snapshot.replicas.size()));
  for (const Metrics::Snapshot::Replica& replica : snapshot.replicas) {
    const scheduler::SchedulerCounts& counts = replica.counts;
    engine::SchedulerLoad& load = *response->add_loads();
    load.set_dp_rank(response->loads_size() - 1);
    load.set_num_running_reqs(static_cast<int32_t>(counts.num_running));
    load.set_num_waiting_reqs(static_cast<int32_t>(counts.num_waiting));
    load.set_num_total_reqs(static_cast<int32_t>(counts.num_running + counts.num_waiting));
    load.set_token_usage(replica.kv_cache_usage);
    if (counts.prefix_cache_queries > 0) {
      load.set_cache_hit_rate(static_cast<double>(counts.prefix_cache_hits) /
                              static_cast<double>(counts.prefix_cache_queries));
    }
    load.set_max_running_requests(static_cast<int32_t>(options_.max_running_sequences));
    load.set_num_waiting_uncached_tokens(static_cast<int32_t>(counts.waiting_prompt_tokens));
  }
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* VllmEngineService::Abort(grpc::CallbackServerContext* context,
                                                   const engine::AbortRequest* request,
                                                   engine::AbortResponse* response) {
  for (const std::string& id : request->request_ids()) {
    serving_.replicas.Cancel(id, absl::CancelledError("aborted"), absl::Now());
  }
  serving_.pump.Wake();
  return Reply(context, absl::OkStatus());
}

}  // namespace kvec::coordinator::server
