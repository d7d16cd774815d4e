#ifndef KVEC_COORDINATOR_CLIENT_CHAT_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_CHAT_COMMAND_H_

#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// `kvec chat`: turn after turn with the history kept, until the input ends. On a terminal a failed
// or cancelled answer ends the turn only; in a pipe the first failure ends the command.
class ChatCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit ChatCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal, InterruptWatcher* interrupts);

 private:
  absl::Status Answer(const Connection& connection, const std::string& question, Terminal& terminal,
                      InterruptWatcher* interrupts);
  void AddMessage(const std::string& role, const std::string& content);

  CLI::App* const command_;
  ConnectionOptions connection_;
  std::optional<std::string> system_;
  v1::GenerateRequest request_;  // its chat messages are the history
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_CHAT_COMMAND_H_
