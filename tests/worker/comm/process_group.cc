#include "tests/worker/comm/process_group.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace kvec::worker::comm {
namespace {

constexpr int kMaxLine = 8192;
int rank_fd = -1;  // in a rank's process: the socket to the test

// Packets keep the lines apart, addresses included.
void SendPacket(int fd, const std::string& packet) {
  if (send(fd, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) _exit(3);
}

std::optional<std::string> ReceivePacket(int fd) {
  pollfd poller = {.fd = fd, .events = POLLIN, .revents = 0};
  if (poll(&poller, 1, 60'000) != 1) return std::nullopt;
  std::string packet(kMaxLine, '\0');
  const ssize_t count = recv(fd, packet.data(), packet.size(), 0);
  if (count <= 0) return std::nullopt;
  packet.resize(count);
  return packet;
}

// A rank's life. Never returns: what the test's process would do at its end is not for a fork.
[[noreturn]] void RunRank(int rank, int num_ranks, const CommEndpoint::Options& options,
                          const ProcessGroup::Body& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto fail = [](const absl::Status& status) {
    ProcessGroup::Tell(absl::StrCat("failed: ", status.ToString()));
    _exit(1);
  };
  auto endpoint = CommEndpoint::Create(options);
  if (!endpoint.ok()) fail(endpoint.status());
  SendPacket(rank_fd, (*endpoint)->address());
  std::vector<std::string> addresses;
  for (int i = 0; i < num_ranks; ++i) {
    addresses.push_back(ReceivePacket(rank_fd).value_or(""));
  }
  auto comm = (*endpoint)->Connect({.epoch = 1, .rank = rank, .num_ranks = num_ranks}, addresses);
  if (!comm.ok()) fail(comm.status());
  ProcessGroup::Tell("connected");
  ProcessGroup::Tell(body(**endpoint, **comm));
  // Others may still be at their last operation: to them the end of this process is a death.
  ReceivePacket(rank_fd);
  _exit(0);
}

}  // namespace

void ProcessGroup::Tell(const std::string& line) { SendPacket(rank_fd, line); }

ProcessGroup::ProcessGroup(int num_ranks, const CommEndpoint::Options& options, const Body& body) {
  for (int rank = 0; rank < num_ranks; ++rank) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
      ADD_FAILURE() << "socketpair";
      return;
    }
    const pid_t pid = fork();
    if (pid == 0) {
      for (const Process& process : processes_) close(process.fd);
      close(fds[0]);
      rank_fd = fds[1];
      RunRank(rank, num_ranks, options, body);
    }
    close(fds[1]);
    processes_.push_back({pid, fds[0]});
  }
  std::vector<std::string> addresses;
  for (const Process& process : processes_) {
    addresses.push_back(ReceivePacket(process.fd).value_or(""));
  }
  for (const Process& process : processes_) {
    for (const std::string& address : addresses) SendPacket(process.fd, address);
  }
  for (int rank = 0; rank < num_ranks; ++rank) EXPECT_EQ(Hear(rank), "connected");
}

ProcessGroup::~ProcessGroup() {
  for (const Process& process : processes_) {
    close(process.fd);
    kill(process.pid, SIGKILL);
    waitpid(process.pid, nullptr, 0);
  }
}

std::optional<std::string> ProcessGroup::Hear(int rank) {
  return ReceivePacket(processes_[rank].fd);
}

void ProcessGroup::Kill(int rank, int signal) { kill(processes_[rank].pid, signal); }

}  // namespace kvec::worker::comm
