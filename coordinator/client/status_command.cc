#include "coordinator/client/status_command.h"

#include <ostream>

#include "absl/time/time.h"
#include "common/status_macros.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/status_report.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Examples:
  kvec status
  kvec status --wait-ready 60 && kvec generate --prompt Hello
  kvec status --json | python3 -m json.tool
)";

}  // namespace

StatusCommand::StatusCommand(CLI::App& program)
    : command_(program.add_subcommand("status", "Shows model, workers, pages and queues")) {
  command_->footer(kExamples);
  AddConnectionOptions(*command_, connection_);
  command_->add_option("--wait-ready", wait_seconds_, "Waits this long for the workers to serve")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber);
  command_->add_flag("--json", print_json_, "Prints one JSON object instead of the table");
}

absl::Status StatusCommand::Run(Terminal& terminal) {
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  if (wait_seconds_.has_value()) {
    KVEC_RETURN_IF_ERROR(connection->WaitUntilServing(absl::Seconds(*wait_seconds_)));
  }
  KVEC_ASSIGN_OR_RETURN(const v1::GetModelResponse model, connection->GetModel());
  KVEC_ASSIGN_OR_RETURN(const v1::GetStatusResponse status, connection->GetStatus());
  terminal.out << (print_json_ ? StatusJson(model, status) + "\n" : StatusTable(model, status));
  terminal.out.flush();
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
