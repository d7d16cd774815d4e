#include "coordinator/client/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace kvec::coordinator::client {
namespace {

constexpr absl::Duration kGraceTime = absl::Seconds(5);
constexpr off_t kErrorTailBytes = 2000;

// Between fork and exec only async-signal-safe calls are allowed: other threads' locks are copied
// in whatever state they were.
[[noreturn]] void BecomeProgram(char* const* arguments, pid_t parent, int output_fd, int error_fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before prctl
  setpgid(0, 0);                        // Ctrl-C is for the parent to handle
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null_fd = open("/dev/null", O_RDONLY);
  if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
      dup2(error_fd, STDERR_FILENO) < 0) {
    _exit(127);
  }
  execv(arguments[0], arguments);
  const char* const reason = strerrordesc_np(errno);
  (void)!write(STDERR_FILENO, arguments[0], strlen(arguments[0]));
  (void)!write(STDERR_FILENO, ": ", 2);
  (void)!write(STDERR_FILENO, reason, strlen(reason));
  _exit(127);
}

// glibc 2.36 declares it without C linkage.
int PidFdOpen(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

absl::Status SystemError(const std::string& call) {
  return absl::InternalError(absl::StrCat(call, ": ", std::strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& arguments) {
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);

  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return SystemError("pipe2");
  const int error_fd = memfd_create("stderr", MFD_CLOEXEC);
  if (error_fd < 0) {
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return SystemError("memfd_create");
  }
  fcntl(error_fd, F_SETFL, O_APPEND);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) BecomeProgram(pointers.data(), parent, pipe_fds[1], error_fd);
  close(pipe_fds[1]);
  const int pid_fd = pid > 0 ? PidFdOpen(pid) : -1;
  if (pid_fd < 0) {
    const absl::Status status = SystemError(pid > 0 ? "pidfd_open" : "fork");
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    close(pipe_fds[0]);
    close(error_fd);
    return status;
  }
  const std::string name = arguments[0].substr(arguments[0].rfind('/') + 1);
  return std::unique_ptr<ChildProcess>(new ChildProcess(name, pid, pid_fd, pipe_fds[0], error_fd));
}

ChildProcess::ChildProcess(std::string name, pid_t pid, int pid_fd, int output_fd, int error_fd)
    : name_(std::move(name)),
      pid_(pid),
      pid_fd_(pid_fd),
      output_fd_(output_fd),
      error_fd_(error_fd) {}

ChildProcess::~ChildProcess() {
  if (!HasExited()) {
    kill(pid_, SIGTERM);
    if (!WaitForExit(kGraceTime)) {
      kill(pid_, SIGKILL);
      WaitForExit(absl::InfiniteDuration());
    }
  }
  close(pid_fd_);
  close(output_fd_);
  close(error_fd_);
}

bool ChildProcess::HasExited() { return WaitForExit(absl::ZeroDuration()); }

bool ChildProcess::WaitForExit(absl::Duration timeout) {
  if (is_reaped_) return true;
  pollfd ended{pid_fd_, POLLIN, 0};
  const int milliseconds = timeout == absl::InfiniteDuration()
                               ? -1
                               : static_cast<int>(absl::ToInt64Milliseconds(timeout));
  if (poll(&ended, 1, milliseconds) != 1) return false;
  is_reaped_ = waitpid(pid_, nullptr, WNOHANG) == pid_;
  return is_reaped_;
}

absl::StatusOr<std::string> ChildProcess::ReadLine(absl::Time deadline) {
  while (true) {
    const size_t newline = unread_.find('\n');
    if (newline != std::string::npos) {
      std::string line = unread_.substr(0, newline);
      unread_.erase(0, newline + 1);
      return line;
    }
    pollfd readable{output_fd_, POLLIN, 0};
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    if (poll(&readable, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) == 0) {
      return absl::DeadlineExceededError(absl::StrCat(name_, ": no line on its output in time"));
    }
    char buffer[4096];
    const ssize_t size = read(output_fd_, buffer, sizeof(buffer));
    if (size <= 0) return absl::UnavailableError(absl::StrCat(name_, " ended: ", ErrorTail()));
    unread_.append(buffer, size);
  }
}

std::string ChildProcess::ErrorTail() const {
  struct stat file;
  if (fstat(error_fd_, &file) != 0) return "";
  const off_t begin = std::max<off_t>(0, file.st_size - kErrorTailBytes);
  std::string tail(file.st_size - begin, '\0');
  const ssize_t size = pread(error_fd_, tail.data(), tail.size(), begin);
  tail.resize(std::max<ssize_t>(0, size));
  return tail;
}

}  // namespace kvec::coordinator::client
