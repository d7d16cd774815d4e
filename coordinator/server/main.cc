// kvec-coordinator: see coordinator_server.h.

#include <pthread.h>
#include <signal.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "coordinator/server/coordinator_flags.h"
#include "coordinator/server/coordinator_server.h"
#include "coordinator/server/served_model.h"
#include "google/protobuf/stubs/logging.h"

namespace kvec::coordinator::server {
namespace {

// Waits for one of the signals; the next one ends the process at once, as anywhere else.
void AwaitSignal(const sigset_t& signals) {
  int signal = 0;
  sigwait(&signals, &signal);
  LOG(INFO) << "coordinator: stopping: " << strsignal(signal);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

absl::Status Run(const CoordinatorFlags& flags, const CoordinatorServer::Options& options,
                 const sigset_t& stop_signals) {
  KVEC_ASSIGN_OR_RETURN(std::unique_ptr<ServedModel> model,
                        ServedModel::Load(flags.model, flags.model_name));
  LOG(INFO) << "coordinator: version " << Version() << ", model " << model->name
            << (options.shape.has_value()
                    ? absl::StrCat(", ", options.shape->num_workers(), " workers make a group of ",
                                   options.shape->num_replicas)
                    : "");
  KVEC_ASSIGN_OR_RETURN(const std::unique_ptr<CoordinatorServer> server,
                        CoordinatorServer::Start(options, std::move(model)));
  if (!server->metrics_address().empty()) {
    LOG(INFO) << "coordinator: metrics at http://" << server->metrics_address() << "/metrics";
  }
  std::cout << "kvec-coordinator ready: inference " << server->address() << " cluster "
            << server->cluster_address();
  const std::vector<std::string> alias_addresses = server->alias_addresses();
  for (size_t i = 0; i < alias_addresses.size(); ++i) {
    std::cout << " alias " << options.aliases[i].name << " " << alias_addresses[i];
  }
  std::cout << std::endl;
  AwaitSignal(stop_signals);
  server->Stop(absl::Seconds(flags.drain_seconds));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CoordinatorFlags flags;
  if (const std::optional<int> exit_code = ParseCoordinatorFlags(argc, argv, flags)) {
    return *exit_code;
  }
  const absl::StatusOr<CoordinatorServer::Options> options = ServerOptions(flags);
  if (!options.ok()) {
    std::cerr << "kvec-coordinator: " << options.status().message() << "\n";
    return 2;
  }
  if (const absl::Status status = InitLogging(argv[0], flags.log_level); !status.ok()) {
    std::cerr << "kvec-coordinator: --log-level: " << status.message() << "\n";
    return 2;
  }
  // Protobuf would log every request that is not UTF-8; its client gets a status.
  google::protobuf::SetLogHandler(nullptr);
  // Blocked before any thread starts, so that only this one takes them.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  if (const absl::Status status = Run(flags, *options, stop_signals); !status.ok()) {
    std::cerr << "kvec-coordinator: " << status.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace kvec::coordinator::server

int main(int argc, char** argv) { return kvec::coordinator::server::Main(argc, argv); }
