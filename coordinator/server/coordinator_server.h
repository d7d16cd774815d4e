#ifndef KVEC_COORDINATOR_SERVER_COORDINATOR_SERVER_H_
#define KVEC_COORDINATOR_SERVER_COORDINATOR_SERVER_H_

#include <grpcpp/server.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/security/server_credentials.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/cluster/step_pump.h"
#include "coordinator/scheduler/replica_router.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/server/call_tracker.h"
#include "coordinator/server/engine_heartbeat.h"
#include "coordinator/server/inference_service.h"
#include "coordinator/server/metrics.h"
#include "coordinator/server/model_alias.h"
#include "coordinator/server/served_model.h"
#include "coordinator/server/serving_context.h"
#include "coordinator/server/serving_health.h"
#include "coordinator/server/task_pool.h"
#include "coordinator/server/tokenizer_call.h"
#include "coordinator/server/vllm_engine_service.h"
#include "prometheus/exposer.h"

namespace kvec::coordinator::server {

// A whole coordinator: the public listener, the cluster listener, and what lies between. Start it,
// and stop it once; both from one thread.
class CoordinatorServer {
 public:
  struct Options {
    // HOST:PORT; port 0 picks a free one.
    std::string listen = "127.0.0.1:50051";
    std::string cluster_listen = "127.0.0.1:50052";
    std::string metrics_listen;  // empty: no metrics endpoint
    // A second address for clients, which asks them for nothing; empty: none.
    std::string local_listen;
    bool local_aliases = false;  // ask for nothing, too
    security::ServerTls tls;     // of `listen` and the aliases
    std::string tokens_file;     // see security::TokenHashes; empty: clients are not asked
    security::ServerTls cluster_tls;
    std::string join_token_file;  // with the token that workers must have
    std::string join_token;       // the same where there is no file; empty: they are not asked
    int max_request_bytes = 4 << 20;
    int max_streams = 4096;  // calls at a time of one connection
    // None: chosen by the workers that attach.
    std::optional<cluster::ParallelShape> shape = cluster::ParallelShape();
    absl::Duration heartbeat_timeout = absl::Seconds(10);
    scheduler::SchedulerOptions scheduler;
    std::vector<ModelAlias> aliases;
    v1::CachePolicy default_cache;  // empty: kvec where a budget is named, else everything is kept
  };

  // Listens when it returns. INVALID_ARGUMENT for options that do not fit each other or the model,
  // the system's errors for their files,
  // UNAVAILABLE for an address that cannot be listened on.
  static absl::StatusOr<std::unique_ptr<CoordinatorServer>> Start(
      const Options& options, std::unique_ptr<ServedModel> model);

  // Stops at once, unless Stop was called.
  ~CoordinatorServer();

  // Refuses new requests, lets those that run finish for at most `drain`, then cancels them.
  void Stop(absl::Duration drain);

  // HOST:PORT with the ports that were picked.
  const std::string& address() const { return address_; }
  const std::string& cluster_address() const { return cluster_address_; }
  // Of Options::aliases, with the ports that were picked.
  std::vector<std::string> alias_addresses() const;
  // Empty without a metrics endpoint.
  const std::string& metrics_address() const { return metrics_address_; }

 private:
  // One model name's listener for vLLM's engine protocol.
  struct AliasServer {
    std::unique_ptr<VllmEngineService> service;
    std::unique_ptr<grpc::Server> server;
    std::string address;
  };

  CoordinatorServer(const Options& options, std::unique_ptr<ServedModel> model);

  absl::Status Listen();
  // What the clients' addresses ask for: options_.tls and tokens.
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ClientCredentials() const;
  absl::Status ListenForClients();
  absl::Status ListenForAlias(const ModelAlias& alias,
                              std::shared_ptr<grpc::ServerCredentials> credentials);
  absl::Status ListenForWorkers();
  absl::Status ListenForMetrics();
  Metrics::Snapshot MetricsSnapshot() const;

  const Options options_;
  const std::unique_ptr<ServedModel> model_;
  // In the order in which the later ones refer to the earlier ones.
  const std::vector<std::unique_ptr<scheduler::Scheduler>> schedulers_;  // by replica
  scheduler::ReplicaRouter replicas_;
  ServingHealth health_;
  CallTracker calls_;
  cluster::StepPump pump_;
  EngineHeartbeat heartbeat_;
  const std::shared_ptr<Metrics> metrics_;
  TaskPool tasks_;
  TokenizerBundle tokenizer_bundle_;
  ServingContext serving_;
  InferenceService inference_service_;
  VllmEngineService engine_service_;
  cluster::ClusterService cluster_service_;
  std::unique_ptr<grpc::Server> public_server_;
  std::vector<AliasServer> alias_servers_;
  std::unique_ptr<grpc::Server> cluster_server_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;
  std::string cluster_address_;
  std::string metrics_address_;
  bool stopped_ = false;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_COORDINATOR_SERVER_H_
