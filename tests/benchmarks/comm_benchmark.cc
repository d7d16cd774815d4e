// The communicator between processes of this machine: time of a sum and of a message there and back
// by size, over shared memory and over TCP on the loopback. Run on an idle machine; with more ranks
// than cores it measures the scheduler, too.
#include <benchmark/benchmark.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "worker/comm/comm_endpoint.h"

namespace kvec::worker::comm {
namespace {

enum class Operation { kAllReduce, kPingPong };

absl::Status RunOnce(Operation operation, GroupComm& comm, std::vector<float>& data) {
  if (operation == Operation::kAllReduce) {
    const int cols = static_cast<int>(data.size());
    return comm.ranks->AllReduceSum({data.data(), 1, cols, cols});
  }
  const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(data.data()),
                                  data.size() * sizeof(float));
  if (comm.rank == 0) {
    const absl::Status sent = comm.ranks->Send(1, bytes);
    return sent.ok() ? comm.ranks->Receive(1, bytes) : sent;
  }
  const absl::Status received = comm.ranks->Receive(0, bytes);
  return received.ok() ? comm.ranks->Send(0, bytes) : received;
}

// Ranks 1 … of a group, forked; rank 0 is the benchmark's process.
class Peers {
 public:
  Peers(int num_ranks, Transport transport, Operation operation, size_t num_floats) {
    const CommEndpoint::Options options = {.transport = transport, .interface = "lo"};
    for (int rank = 1; rank < num_ranks; ++rank) {
      int fds[2];
      CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
      pids_.push_back(fork());
      if (pids_.back() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        comm_ = Connect(rank, num_ranks, options, {fds[1]});
        std::vector<float> data(num_floats, 1.0f);
        while (RunOnce(operation, *comm_, data).ok()) {
        }
        _exit(1);
      }
      fds_.push_back(fds[0]);
    }
    comm_ = Connect(0, num_ranks, options, fds_);
  }

  ~Peers() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    for (const int fd : fds_) close(fd);
  }

  GroupComm& comm() { return *comm_; }

 private:
  static void Write(int fd, const std::string& bytes) {
    CHECK_EQ(send(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }

  static std::string Read(int fd) {
    std::string bytes(4096, '\0');
    const ssize_t count = recv(fd, bytes.data(), bytes.size(), 0);
    CHECK_GT(count, 0);
    bytes.resize(count);
    return bytes;
  }

  // Rank 0, which has a socket to each, hands the addresses round.
  std::unique_ptr<GroupComm> Connect(int rank, int num_ranks, const CommEndpoint::Options& options,
                                     const std::vector<int>& fds) {
    auto endpoint = CommEndpoint::Create(options);
    CHECK(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
    std::vector<std::string> addresses = {endpoint_->address()};
    if (rank == 0) {
      for (const int fd : fds) addresses.push_back(Read(fd));
      for (const int fd : fds) {
        for (const std::string& address : addresses) Write(fd, address);
      }
    } else {
      Write(fds[0], endpoint_->address());
      addresses.clear();
      for (int i = 0; i < num_ranks; ++i) addresses.push_back(Read(fds[0]));
    }
    auto comm = endpoint_->Connect({.epoch = 1, .rank = rank, .num_ranks = num_ranks}, addresses);
    CHECK(comm.ok()) << comm.status();
    return *std::move(comm);
  }

  std::vector<pid_t> pids_;
  std::vector<int> fds_;
  std::unique_ptr<CommEndpoint> endpoint_;
  std::unique_ptr<GroupComm> comm_;
};

void Measure(benchmark::State& state, Transport transport, Operation operation, int num_ranks) {
  const auto num_bytes = static_cast<size_t>(state.range(0));
  Peers peers(num_ranks, transport, operation, num_bytes / sizeof(float));
  std::vector<float> data(num_bytes / sizeof(float), 0.0f);
  for (auto _ : state) {
    const absl::Status status = RunOnce(operation, peers.comm(), data);
    CHECK(status.ok()) << status;
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(num_bytes));
}

// benchmark_main runs what static initialisation has registered.
bool RegisterAll() {
  for (const Transport transport : {Transport::kSharedMemory, Transport::kTcp}) {
    const std::string over = transport == Transport::kTcp ? "tcp" : "shared_memory";
    const auto add = [&](const std::string& name, Operation operation, int num_ranks) {
      // 2,304 bytes: SmolLM2's hidden state of one token; 1,179,648: those of a chunk of 512.
      benchmark::RegisterBenchmark((over + "/" + name).c_str(), Measure, transport, operation,
                                   num_ranks)
          ->Arg(4)
          ->Arg(2304)
          ->Arg(18432)
          ->Arg(131072)
          ->Arg(1179648)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    };
    for (const int num_ranks : {2, 3, 4}) {
      add("all_reduce/ranks:" + std::to_string(num_ranks), Operation::kAllReduce, num_ranks);
    }
    add("there_and_back", Operation::kPingPong, 2);
  }
  return true;
}

[[maybe_unused]] const bool kRegistered = RegisterAll();

}  // namespace
}  // namespace kvec::worker::comm
