#ifndef KVEC_COORDINATOR_CLIENT_GENERATE_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_GENERATE_COMMAND_H_

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/prompt_options.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// `kvec generate`: one prompt, one answer.
class GenerateCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit GenerateCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  // `interrupts` may be null: Ctrl-C then ends the process.
  absl::Status Run(Terminal& terminal, InterruptWatcher* interrupts);

 private:
  CLI::App* const command_;
  ConnectionOptions connection_;
  PromptOptions prompt_;
  v1::GenerateRequest request_;
  double timeout_seconds_ = 0;
  bool print_json_ = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_GENERATE_COMMAND_H_
