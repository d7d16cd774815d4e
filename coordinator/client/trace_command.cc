#include "coordinator/client/trace_command.h"

#include <ostream>

#include "absl/strings/str_cat.h"
#include "common/grpc_status.h"
#include "common/status_macros.h"
#include "coordinator/client/chrome_trace.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/trace_summary.h"
#include "coordinator/client/write_file.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Look at the file in ui.perfetto.dev or chrome://tracing.
Examples:
  kvec trace
  kvec trace --steps 1000 --seconds 10 --out decode.json
)";

}  // namespace

TraceCommand::TraceCommand(CLI::App& program)
    : command_(program.add_subcommand(
          "trace", "Records what coordinator and workers do during the next Steps")) {
  command_->footer(kExamples);
  AddConnectionOptions(*command_, connection_);
  command_->add_option("--steps", num_steps_, "Steps to record")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command_->add_option("--seconds", max_seconds_, "Records fewer when they take longer")
      ->type_name("SECONDS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command_->add_option("--replica", replica_, "Whose workers, where several groups serve")
      ->type_name("N")
      ->capture_default_str();
  command_->add_option("-o,--out", output_, "The trace, in Chrome's event format")
      ->type_name("FILE")
      ->capture_default_str();
}

absl::Status TraceCommand::Run(Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  v1::TraceRequest request;
  request.set_num_steps(num_steps_);
  request.set_max_seconds(max_seconds_);
  request.set_replica(replica_);
  grpc::ClientContext context;
  const ScopedInterruptHandler cancel(interrupts, [&context] { context.TryCancel(); });
  v1::TraceResponse trace;
  const grpc::Status status = connection->inference().Trace(&context, request, &trace);
  if (!status.ok()) return FromGrpcStatus(status);
  if (trace.num_steps() == 0) {
    return absl::UnavailableError(absl::StrCat("no Step was run within ", max_seconds_, " s"));
  }
  KVEC_RETURN_IF_ERROR(WriteFile("--out", output_, ChromeTrace(trace)));
  terminal.out << TraceSummary(trace) << output_ << ": " << trace.num_steps() << " Steps"
               << std::endl;
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
