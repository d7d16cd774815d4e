#include "coordinator/server/coordinator_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/logging.h"
#include "common/model/error_text.h"
#include "common/security/tls_files.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "coordinator/budget/layer_budget_allocator.h"
#include "coordinator/server/cache_policies.h"

namespace kvec::coordinator::server {
namespace {

// Messages between coordinator and workers: Steps, and results with log-probabilities.
constexpr int kMaxClusterMessageBytes = 64 << 20;
// A worker needs one.
constexpr int kMaxClusterStreams = 8;
constexpr int kHandshakeTimeoutMs = 10'000;
// How long peers get to close idle connections, and cancelled ones to hear of it. gRPC clients that
// wait for nothing notice late, so this is what stopping takes.
constexpr absl::Duration kLastWords = absl::Milliseconds(250);
// Tokenizers are fast: more threads would only take time from workers on the same machine.
constexpr int kTaskThreads = 2;

// That --parallel auto makes.
constexpr int kMaxAutomaticReplicas = 16;

// "127.0.0.1:0" and 4711 give "127.0.0.1:4711".
std::string WithPort(const std::string& address, int port) {
  return absl::StrCat(address.substr(0, address.rfind(':') + 1), port);
}

// An address, and what it asks of those who come there.
struct Listener {
  std::string address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

struct ServerLimits {
  int max_message_bytes;
  int max_streams;  // of one connection
};

// Listens with `services`; sets the first listener's address with the port that was picked.
absl::StatusOr<std::unique_ptr<grpc::Server>> Serve(const std::vector<Listener>& listeners,
                                                    const std::vector<grpc::Service*>& services,
                                                    const ServerLimits& limits,
                                                    std::string* picked) {
  grpc::ServerBuilder builder;
  std::vector<int> ports(listeners.size());
  for (size_t i = 0; i < listeners.size(); ++i) {
    builder.AddListeningPort(listeners[i].address, listeners[i].credentials, &ports[i]);
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(limits.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.max_streams);
  // Whoever connects and then says nothing does not hold a descriptor for long.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  // Else a second coordinator on the same port would silently get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Lets clients behind a gateway keep idle connections open.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  // Notices peers whose machine is gone without a word.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  for (size_t i = 0; i < listeners.size(); ++i) {
    if (server != nullptr && ports[i] != 0) continue;
    return absl::UnavailableError(
        absl::StrCat(listeners[i].address, ": cannot listen on this address"));
  }
  *picked = WithPort(listeners[0].address, ports[0]);
  return server;
}

cluster::ReplicaSet::Options ReplicaOptions(const CoordinatorServer::Options& options,
                                            const ServedModel& model, ServingHealth& health,
                                            std::function<void(const v1::StepResult&)> on_result) {
  cluster::ReplicaSet::Options replicas;
  replicas.membership.version = std::string(Version());
  replicas.membership.model_fingerprint = model.fingerprint;
  replicas.membership.heartbeat_timeout = options.heartbeat_timeout;
  replicas.shape = options.shape;
  replicas.model = model.config;
  replicas.group.sliding_windows = model.SlidingWindows();
  replicas.group.model_bytes = model.bytes;
  replicas.group.sentence_end_bits = text::SentenceEndBits(*model.tokenizer);
  replicas.group.step_tokens = options.scheduler.step_tokens;
  replicas.group.on_step_result = std::move(on_result);
  replicas.on_ready_changed = [&health](bool ready) { health.SetGroupReady(ready); };
  return replicas;
}

VllmEngineService::Options EngineOptions(const CoordinatorServer::Options& options,
                                         const std::string& served_name,
                                         const v1::CachePolicy& cache) {
  return {served_name, cache, options.scheduler.max_running_sequences};
}

// One for each replica that there may be.
std::vector<std::unique_ptr<scheduler::Scheduler>> MakeSchedulers(
    const CoordinatorServer::Options& options, const ServedModel& model) {
  scheduler::SchedulerOptions scheduler = options.scheduler;
  scheduler.num_kv_heads = static_cast<uint32_t>(model.config.num_kv_heads);
  const auto budgets = std::make_shared<budget::LayerBudgetAllocator>(model.config.num_kv_heads,
                                                                      model.config.sliding_windows);
  const int num_replicas =
      options.shape.has_value() ? options.shape->num_replicas : kMaxAutomaticReplicas;
  std::vector<std::unique_ptr<scheduler::Scheduler>> schedulers;
  for (int i = 0; i < num_replicas; ++i) {
    schedulers.push_back(scheduler::CreateScheduler(scheduler, budgets));
  }
  return schedulers;
}

std::vector<scheduler::Scheduler*> Pointers(
    const std::vector<std::unique_ptr<scheduler::Scheduler>>& schedulers) {
  std::vector<scheduler::Scheduler*> pointers;
  for (const auto& scheduler : schedulers) pointers.push_back(scheduler.get());
  return pointers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorServer>> CoordinatorServer::Start(
    const Options& options, std::unique_ptr<ServedModel> model) {
  if (options.shape.has_value()) {
    KVEC_RETURN_IF_ERROR(cluster::CheckParallelShape(*options.shape, model->config));
  }
  KVEC_RETURN_IF_ERROR(ResolveCachePolicy(v1::CachePolicy(), options.default_cache).status());
  for (const ModelAlias& alias : options.aliases) {
    const absl::Status status = ResolveCachePolicy(alias.cache, options.default_cache).status();
    if (!status.ok()) return Annotate(status, absl::StrCat("alias ", alias.name));
  }
  // Not make_unique: the constructor is private.
  std::unique_ptr<CoordinatorServer> server(new CoordinatorServer(options, std::move(model)));
  KVEC_RETURN_IF_ERROR(server->Listen());
  return server;
}

CoordinatorServer::CoordinatorServer(const Options& options, std::unique_ptr<ServedModel> model)
    : options_(options),
      model_(std::move(model)),
      schedulers_(MakeSchedulers(options_, *model_)),
      replicas_(Pointers(schedulers_)),
      pump_(
          ReplicaOptions(options_, *model_, health_,
                         // metrics_ is there before the pump starts.
                         [this](const v1::StepResult& result) { metrics_->OnStepResult(result); }),
          replicas_.replicas()),
      heartbeat_({.ask = [this] { pump_.Wake(); },
                  .num_turns = [this] { return pump_.num_turns(); },
                  .on_changed = [this](bool is_alive) { health_.SetAlive(is_alive); }}),
      metrics_(std::make_shared<Metrics>([this] { return MetricsSnapshot(); })),
      tasks_(kTaskThreads, options.scheduler.max_waiting_requests),
      tokenizer_bundle_(*model_),
      serving_{*model_, replicas_,         pump_,
               calls_,  *metrics_,         tasks_,
               health_, tokenizer_bundle_, options_.default_cache},
      inference_service_(serving_),
      engine_service_(serving_, EngineOptions(options_, model_->name, v1::CachePolicy())),
      cluster_service_(pump_) {}

CoordinatorServer::~CoordinatorServer() { Stop(absl::ZeroDuration()); }

absl::Status CoordinatorServer::Listen() {
  // Both are settings of the process, and take effect for servers built afterwards.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  KVEC_RETURN_IF_ERROR(ListenForClients());
  KVEC_RETURN_IF_ERROR(ListenForWorkers());
  if (!options_.metrics_listen.empty()) KVEC_RETURN_IF_ERROR(ListenForMetrics());
  pump_.Start();
  heartbeat_.Start();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> CoordinatorServer::ClientCredentials()
    const {
  std::shared_ptr<security::TokenGuard> guard;
  if (!options_.tokens_file.empty()) {
    KVEC_ASSIGN_OR_RETURN(guard, security::TokenGuard::OfHashFile(options_.tokens_file));
  }
  return security::MakeServerCredentials(options_.tls, std::move(guard));
}

absl::Status CoordinatorServer::ListenForClients() {
  KVEC_ASSIGN_OR_RETURN(const auto credentials, ClientCredentials());
  std::vector<Listener> listeners = {{options_.listen, credentials}};
  if (!options_.local_listen.empty()) {
    listeners.push_back({options_.local_listen, grpc::InsecureServerCredentials()});
  }
  KVEC_ASSIGN_OR_RETURN(public_server_,
                        Serve(listeners, {&inference_service_, &engine_service_},
                              {options_.max_request_bytes, options_.max_streams}, &address_));
  health_.Attach(public_server_->GetHealthCheckService(),
                 {v1::Inference::service_full_name(), VllmEngine::service_full_name()});
  for (const ModelAlias& alias : options_.aliases) {
    KVEC_RETURN_IF_ERROR(ListenForAlias(
        alias, options_.local_aliases ? grpc::InsecureServerCredentials() : credentials));
  }
  return absl::OkStatus();
}

absl::Status CoordinatorServer::ListenForAlias(
    const ModelAlias& alias, std::shared_ptr<grpc::ServerCredentials> credentials) {
  AliasServer& server = alias_servers_.emplace_back();
  server.service = std::make_unique<VllmEngineService>(
      serving_, EngineOptions(options_, absl::StrCat(model_->name, "@", alias.name), alias.cache));
  KVEC_ASSIGN_OR_RETURN(server.server,
                        Serve({{alias.listen, std::move(credentials)}}, {server.service.get()},
                              {options_.max_request_bytes, options_.max_streams}, &server.address));
  health_.Attach(server.server->GetHealthCheckService(), {VllmEngine::service_full_name()});
  return absl::OkStatus();
}

absl::Status CoordinatorServer::ListenForWorkers() {
  std::shared_ptr<security::TokenGuard> guard;
  if (!options_.join_token_file.empty()) {
    KVEC_ASSIGN_OR_RETURN(guard, security::TokenGuard::OfTokenFile(options_.join_token_file));
  } else if (!options_.join_token.empty()) {
    guard = security::TokenGuard::OfToken(options_.join_token);
  }
  KVEC_ASSIGN_OR_RETURN(const auto credentials,
                        security::MakeServerCredentials(options_.cluster_tls, std::move(guard)));
  KVEC_ASSIGN_OR_RETURN(cluster_server_,
                        Serve({{options_.cluster_listen, credentials}}, {&cluster_service_},
                              {kMaxClusterMessageBytes, kMaxClusterStreams}, &cluster_address_));
  return absl::OkStatus();
}

absl::Status CoordinatorServer::ListenForMetrics() {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(options_.metrics_listen);
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat(options_.metrics_listen, ": cannot listen on this address: ", error.what()));
  }
  exposer_->RegisterCollectable(metrics_);
  metrics_address_ = WithPort(options_.metrics_listen, exposer_->GetListeningPorts().front());
  return absl::OkStatus();
}

void CoordinatorServer::Stop(absl::Duration drain) {
  if (std::exchange(stopped_, true)) return;
  // In this order: whoever hears that it is not serving must not have a call accepted afterwards.
  calls_.Drain();
  health_.Drain();
  if (public_server_ != nullptr) {
    if (!calls_.AwaitIdle(drain)) LOG(WARNING) << "requests are cancelled: draining took too long";
    const auto deadline = absl::ToChronoTime(absl::Now() + kLastWords);
    public_server_->Shutdown(deadline);
    for (const AliasServer& alias : alias_servers_) {
      if (alias.server != nullptr) alias.server->Shutdown(deadline);
    }
  }
  tasks_.Stop();
  exposer_.reset();
  heartbeat_.Stop();
  pump_.Stop();
  if (cluster_server_ != nullptr) {
    cluster_server_->Shutdown(absl::ToChronoTime(absl::Now() + kLastWords));
  }
  health_.Detach();
}

std::vector<std::string> CoordinatorServer::alias_addresses() const {
  std::vector<std::string> addresses;
  for (const AliasServer& alias : alias_servers_) addresses.push_back(alias.address);
  return addresses;
}

Metrics::Snapshot CoordinatorServer::MetricsSnapshot() const {
  Metrics::Snapshot snapshot;
  snapshot.counts = replicas_.counts();
  const size_t num_replicas = pump_.num_replicas();
  for (size_t i = 0; i < num_replicas; ++i) {
    snapshot.replicas.push_back({.counts = schedulers_[i]->counts()});
  }
  for (v1::WorkerStatus& worker : pump_.WorkerStatuses()) {
    if (worker.state() != cluster::StateName(cluster::Member::State::kReady)) continue;
    ++snapshot.num_workers_ready;
    const double used =
        1.0 - static_cast<double>(worker.free_pages()) / static_cast<double>(worker.total_pages());
    snapshot.kv_cache_usage = std::max(snapshot.kv_cache_usage, used);
    if (worker.replica() < num_replicas) {
      double& of_replica = snapshot.replicas[worker.replica()].kv_cache_usage;
      of_replica = std::max(of_replica, used);
    }
    snapshot.workers.push_back(std::move(worker));
  }
  // Read every time: the files may have been renewed.
  const std::pair<const char*, const security::ServerTls&> listeners[] = {
      {"clients", options_.tls}, {"workers", options_.cluster_tls}};
  for (const auto& [listener, tls] : listeners) {
    if (tls.certificate.empty()) continue;
    const absl::StatusOr<absl::Time> end = security::ExpiryOf(tls.certificate);
    if (end.ok()) snapshot.certificate_ends.emplace(listener, *end);
  }
  return snapshot;
}

}  // namespace kvec::coordinator::server
