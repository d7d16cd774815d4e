#ifndef KVEC_COORDINATOR_CLIENT_TOKEN_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_TOKEN_COMMAND_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/terminal.h"

namespace kvec::coordinator::client {

// `kvec token`: makes tokens for clients and workers, and the lines of a coordinator's tokens file.
// Talks to nobody.
class TokenCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit TokenCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal);

 private:
  CLI::App* const command_;
  std::string name_;
  std::string append_;  // path
  bool hash_ = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TOKEN_COMMAND_H_
