#ifndef KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/terminal.h"

namespace kvec::coordinator::client {

// `kvec status`: the model, the workers, pages, queues and requests; --wait-ready for scripts,
// --watch for people.
class StatusCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit StatusCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal, InterruptWatcher* interrupts);

 private:
  absl::Status Show(const Connection& connection, Terminal& terminal);
  // Shows it again and again, also while there is no answer, until Ctrl-C.
  absl::Status Watch(const Connection& connection, Terminal& terminal,
                     InterruptWatcher* interrupts);

  CLI::App* const command_;
  ConnectionOptions connection_;
  std::optional<double> wait_seconds_;
  bool print_json_ = false;
  bool watch_ = false;
  double interval_seconds_ = 2;
  uint32_t count_ = 0;  // of tables; 0: no end
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_STATUS_COMMAND_H_
