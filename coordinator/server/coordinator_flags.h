#ifndef KVEC_COORDINATOR_SERVER_COORDINATOR_FLAGS_H_
#define KVEC_COORDINATOR_SERVER_COORDINATOR_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/server/coordinator_server.h"
#include "coordinator/server/security_flags.h"

namespace kvec::coordinator::server {

// kvec-coordinator's command line and config file.
struct CoordinatorFlags {
  std::string model;
  std::string model_name;
  std::string listen = "127.0.0.1:50051";
  std::string cluster_listen = "127.0.0.1:50052";
  std::string metrics_listen;
  std::vector<std::string> aliases;
  SecurityFlags security;
  std::string parallel = "tp=1,pp=1";
  std::string policy;
  std::optional<uint32_t> budget_tokens;
  std::optional<float> budget_share;
  uint32_t prefill_bound_tokens = 0;
  uint32_t decode_interval_tokens = 0;
  double max_request_mib = 4;
  uint32_t max_streams = 4096;
  double drain_seconds = 30;
  double heartbeat_seconds = 10;
  double session_ttl_seconds = 600;
  scheduler::SchedulerOptions scheduler;
  std::string log_level = "info";
};

// Fills `flags`. A value means that the program ends with this exit code: 0 after --help and
// --version, 2 after wrong usage, which it has explained on standard error.
std::optional<int> ParseCoordinatorFlags(int argc, char** argv, CoordinatorFlags& flags);

// INVALID_ARGUMENT names the flag.
absl::StatusOr<CoordinatorServer::Options> ServerOptions(const CoordinatorFlags& flags);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_COORDINATOR_FLAGS_H_
