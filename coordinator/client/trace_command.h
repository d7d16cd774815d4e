#ifndef KVEC_COORDINATOR_CLIENT_TRACE_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_TRACE_COMMAND_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// `kvec trace`: what coordinator and workers do during some Steps, as a file and as a table.
class TraceCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit TraceCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal, InterruptWatcher* interrupts);

 private:
  CLI::App* const command_;
  ConnectionOptions connection_;
  std::string output_ = "trace.json";
  uint32_t num_steps_ = 100;
  double max_seconds_ = 60;
  uint32_t replica_ = 0;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TRACE_COMMAND_H_
