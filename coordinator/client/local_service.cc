#include "coordinator/client/local_service.h"

#include <unistd.h>

#include <climits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "coordinator/client/connection.h"

namespace kvec::coordinator::client {
namespace {

// Between two looks at whether the processes are still there.
constexpr absl::Duration kDeathCheck = absl::Milliseconds(200);

absl::StatusOr<std::string> FolderOfThisProgram() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  if (size <= 0) return absl::InternalError("/proc/self/exe is unreadable");
  const std::string program(path, size);
  return program.substr(0, program.rfind('/'));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalService>> LocalService::Start(const Options& options) {
  const absl::Time deadline = absl::Now() + options.start_timeout;
  KVEC_ASSIGN_OR_RETURN(const std::string folder, FolderOfThisProgram());
  std::unique_ptr<LocalService> service(new LocalService);
  KVEC_RETURN_IF_ERROR(service->StartCoordinator(folder, options, deadline));
  std::vector<std::string> arguments = {folder + "/kvec-worker", "--model", options.model,
                                        "--coordinator", service->cluster_};
  arguments.insert(arguments.end(), options.worker_flags.begin(), options.worker_flags.end());
  KVEC_ASSIGN_OR_RETURN(service->worker_, ChildProcess::Start(arguments));
  KVEC_RETURN_IF_ERROR(service->WaitUntilServing(deadline));
  return service;
}

absl::Status LocalService::StartCoordinator(const std::string& folder, const Options& options,
                                            absl::Time deadline) {
  std::vector<std::string> arguments = {
      folder + "/kvec-coordinator", "--model",    options.model, "--listen", "127.0.0.1:0",
      "--cluster-listen",           "127.0.0.1:0"};
  arguments.insert(arguments.end(), options.coordinator_flags.begin(),
                   options.coordinator_flags.end());
  KVEC_ASSIGN_OR_RETURN(coordinator_, ChildProcess::Start(arguments));
  // "kvec-coordinator ready: inference HOST:PORT cluster HOST:PORT"
  KVEC_ASSIGN_OR_RETURN(const std::string line, coordinator_->ReadLine(deadline));
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  if (words.size() != 6 || words[2] != "inference" || words[4] != "cluster") {
    return absl::InternalError(absl::StrCat("unexpected word from kvec-coordinator: ", line));
  }
  target_ = words[3];
  cluster_ = words[5];
  return absl::OkStatus();
}

absl::Status LocalService::WaitUntilServing(absl::Time deadline) {
  ConnectionOptions options;
  options.target = target_;
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(options));
  while (true) {
    absl::Status status = connection->WaitUntilServing(kDeathCheck);
    if (status.ok()) return status;
    for (ChildProcess* process : {worker_.get(), coordinator_.get()}) {
      if (process->HasExited()) return absl::UnavailableError(process->ErrorTail());
    }
    if (absl::Now() >= deadline) return status;
  }
}

}  // namespace kvec::coordinator::client
