#ifndef KVEC_COORDINATOR_CLIENT_CONNECTION_OPTIONS_H_
#define KVEC_COORDINATOR_CLIENT_CONNECTION_OPTIONS_H_

#include <string>

#include "CLI/CLI.hpp"
#include "common/security/channel_credentials.h"

namespace kvec::coordinator::client {

inline constexpr char kDefaultTarget[] = "127.0.0.1:50051";

// Which coordinator, and how to talk to it.
struct ConnectionOptions {
  std::string target = kDefaultTarget;  // HOST:PORT
  security::ClientTls tls;
  std::string token_file;  // empty: KVEC_TOKEN of the environment, if it is there
  bool insecure = false;   // lets the token go out unencrypted
};

// --target and the security flags, which every command has. Returns --target.
CLI::Option* AddConnectionOptions(CLI::App& command, ConnectionOptions& options);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_CONNECTION_OPTIONS_H_
