#ifndef KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_

#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/terminal.h"

namespace kvec::coordinator::client {

// `kvec status`: the model, the workers, pages and queues; --wait-ready for scripts.
class StatusCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit StatusCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal);

 private:
  CLI::App* const command_;
  ConnectionOptions connection_;
  std::optional<double> wait_seconds_;
  bool print_json_ = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_
