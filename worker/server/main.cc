// kvec-worker: see worker.h.

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/server/device_factory.h"
#include "worker/server/read_speed.h"
#include "worker/server/worker.h"
#include "worker/server/worker_flags.h"

namespace kvec::worker::server {
namespace {

std::string HostName() {
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  return name;
}

// Processors that this process may run on: what taskset or a container's cpuset leaves.
int NumUsableProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

absl::Status Run(const WorkerFlags& flags, const sigset_t& stop_signals) {
  KVEC_ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(flags.model));
  files->DropTokenizer();  // workers see token ids only
  const ModelConfig& config = files->config();
  const int num_threads = flags.threads > 0 ? flags.threads : NumUsableProcessors();
  KVEC_ASSIGN_OR_RETURN(const MadeDevice made, MakeDevice(flags, num_threads));

  Worker::Options options;
  options.host = HostName();
  options.tls = flags.tls;
  options.join_token_file = flags.join_token_file;
  options.worker_id =
      flags.worker_id.empty() ? absl::StrCat(options.host, "-", getpid()) : flags.worker_id;
  options.device = std::string(made.device->name());
  options.threads = num_threads;
  options.max_step_tokens = flags.max_step_tokens;
  KVEC_ASSIGN_OR_RETURN(options.kv_type, ResolveKvType(flags.kv_type));
  options.kv_bytes = RequestedKvBytes(flags, config, options.kv_type);
  options.available_bytes = flags.memory_bytes > 0 ? flags.memory_bytes : made.available_bytes;
  options.shares_memory = flags.memory_bytes == 0 && flags.device == "cpu";
  options.device_comm = made.comm.get();
  KVEC_ASSIGN_OR_RETURN(options.comm, ResolveComm(flags));
  KVEC_ASSIGN_OR_RETURN(options.read_bytes_per_second, MeasureReadSpeed(*files, *made.device));
  LOG(INFO) << options.worker_id << ": " << config.name << " on " << options.device << ", "
            << options.threads << " threads, reads weights at "
            << static_cast<double>(options.read_bytes_per_second) / 1e9 << " GB/s";

  Worker worker(*files, *made.device, options);
  std::atomic<bool> has_ended = false;
  std::thread signals([&] {
    int signal = 0;
    sigwait(&stop_signals, &signal);
    if (has_ended) return;
    LOG(INFO) << options.worker_id << ": leaving: " << strsignal(signal);
    worker.Leave();
    // Until it is gone, its time is up, or somebody insists.
    const timespec grace = absl::ToTimespec(absl::Seconds(flags.drain_seconds));
    sigtimedwait(&stop_signals, nullptr, &grace);
    worker.Stop();
  });
  const absl::Status status = worker.Serve(flags.coordinator);
  has_ended = true;
  pthread_kill(signals.native_handle(), SIGTERM);
  signals.join();
  return status;
}

int Main(int argc, char** argv) {
  WorkerFlags flags;
  if (const std::optional<int> exit_code = ParseWorkerFlags(argc, argv, flags)) return *exit_code;
  if (const absl::Status status = InitLogging(argv[0], flags.log_level); !status.ok()) {
    std::cerr << "kvec-worker: --log-level: " << status.message() << "\n";
    return 2;
  }
  // Blocked before any thread starts, so that only the signal thread takes them.
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  sigaddset(&stop_signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  if (const absl::Status status = Run(flags, stop_signals); !status.ok()) {
    std::cerr << "kvec-worker: " << status.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace kvec::worker::server

int main(int argc, char** argv) { return kvec::worker::server::Main(argc, argv); }
