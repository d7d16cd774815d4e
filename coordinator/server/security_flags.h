#ifndef KVEC_COORDINATOR_SERVER_SECURITY_FLAGS_H_
#define KVEC_COORDINATOR_SERVER_SECURITY_FLAGS_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/server/coordinator_server.h"

namespace kvec::coordinator::server {

// Those of kvec-coordinator's flags that say who may talk to it, and how.
struct SecurityFlags {
  security::ServerTls tls;
  std::string tokens;
  security::ServerTls cluster_tls;
  std::string join_token_file;
  std::string local_listen;
  bool local_aliases = false;
  bool insecure = false;
};

void AddSecurityFlags(CLI::App& app, SecurityFlags& flags);

// Takes them over into `options`, whose addresses are set, with the join token of the environment
// variable KVEC_JOIN_TOKEN where no file has it. INVALID_ARGUMENT for an address beyond the
// loopback that is not encrypted or takes anybody, unless flags.insecure; it names the flags.
absl::Status ApplySecurity(const SecurityFlags& flags, CoordinatorServer::Options& options);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_SECURITY_FLAGS_H_
