#ifndef KVEC_COORDINATOR_CLIENT_COVERAGE_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_COVERAGE_COMMAND_H_

#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/prompt_options.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// `kvec coverage`: evicts one prompt and writes a page that shows what each layer and head kept.
class CoverageCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit CoverageCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal, InterruptWatcher* interrupts);

 private:
  CLI::App* const command_;
  ConnectionOptions connection_;
  PromptOptions prompt_;
  v1::GenerateRequest request_;
  std::string output_ = "coverage.html";
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_COVERAGE_COMMAND_H_
