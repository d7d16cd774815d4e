#include "coordinator/client/status_command.h"

#include <ostream>

#include "absl/synchronization/notification.h"
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
  kvec status --watch --interval 1
)";

constexpr uint32_t kMaxListedRequests = 1000;
constexpr uint32_t kMaxWatchedRequests = 20;  // a screen
constexpr char kClearScreen[] = "\x1b[H\x1b[2J";

}  // namespace

StatusCommand::StatusCommand(CLI::App& program)
    : command_(program.add_subcommand("status", "Shows model, workers, pages and queues")) {
  command_->footer(kExamples);
  AddConnectionOptions(*command_, connection_);
  command_->add_option("--wait-ready", wait_seconds_, "Waits this long for the workers to serve")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber);
  CLI::Option* json =
      command_->add_flag("--json", print_json_, "Prints one JSON object instead of the table");
  CLI::Option* watch =
      command_->add_flag("--watch", watch_, "Shows it live, with requests and rates, until Ctrl-C")
          ->excludes(json);
  command_->add_option("--interval", interval_seconds_, "Between two looks")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str()
      ->needs(watch);
  command_->add_option("--count", count_, "Ends after so many looks; 0: never")
      ->type_name("N")
      ->capture_default_str()
      ->needs(watch);
}

absl::Status StatusCommand::Run(Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  if (wait_seconds_.has_value()) {
    KVEC_RETURN_IF_ERROR(connection->WaitUntilServing(absl::Seconds(*wait_seconds_)));
  }
  return watch_ ? Watch(*connection, terminal, interrupts) : Show(*connection, terminal);
}

absl::Status StatusCommand::Show(const Connection& connection, Terminal& terminal) {
  KVEC_ASSIGN_OR_RETURN(const v1::GetModelResponse model, connection.GetModel());
  KVEC_ASSIGN_OR_RETURN(const v1::GetStatusResponse status,
                        connection.GetStatus(print_json_ ? kMaxListedRequests : 0));
  terminal.out << (print_json_ ? StatusJson(model, status) + "\n" : StatusTable(model, status));
  terminal.out.flush();
  return absl::OkStatus();
}

absl::Status StatusCommand::Watch(const Connection& connection, Terminal& terminal,
                                  InterruptWatcher* interrupts) {
  // An unknown token or a wrong certificate is told at once.
  KVEC_ASSIGN_OR_RETURN(const v1::GetModelResponse model, connection.GetModel());
  absl::Notification interrupted;
  const ScopedInterruptHandler stop(interrupts, [&interrupted] {
    if (!interrupted.HasBeenNotified()) interrupted.Notify();
  });
  std::optional<v1::GetStatusResponse> last;
  for (uint32_t look = 1;; ++look) {
    const absl::StatusOr<v1::GetStatusResponse> status = connection.GetStatus(kMaxWatchedRequests);
    terminal.out << (terminal.out_is_tty ? kClearScreen : "");
    if (status.ok()) {
      terminal.out << WatchTable(model, *status, last) << std::flush;
      last = *status;
    } else {
      terminal.out << connection.target() << ": " << status.status().message() << std::endl;
    }
    if (!terminal.out.good() || look == count_) return absl::OkStatus();
    if (interrupted.WaitForNotificationWithTimeout(absl::Seconds(interval_seconds_))) {
      return absl::OkStatus();
    }
  }
}

}  // namespace kvec::coordinator::client
