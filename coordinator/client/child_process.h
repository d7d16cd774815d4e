#ifndef KVEC_COORDINATOR_CLIENT_CHILD_PROCESS_H_
#define KVEC_COORDINATOR_CLIENT_CHILD_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvec::coordinator::client {

// A process that ends with this one, whatever happens: at destruction by SIGTERM, after a grace
// time by SIGKILL; by SIGKILL at once when this process is killed. Its standard error is kept for
// messages, its standard output is read line by line. Create and use it on the main thread: Linux
// counts the end of the creating thread as the parent's.
class ChildProcess {
 public:
  // `arguments`: the program's path first. INTERNAL when no process can be made; a program that
  // can't be executed shows as a process that has exited.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& arguments);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  bool HasExited();

  // The next line of its standard output, without the newline. UNAVAILABLE with the end of its
  // standard error when the output ends first; DEADLINE_EXCEEDED.
  absl::StatusOr<std::string> ReadLine(absl::Time deadline);

  // The end of its standard error, for error messages.
  std::string ErrorTail() const;

 private:
  ChildProcess(std::string name, pid_t pid, int pid_fd, int output_fd, int error_fd);
  bool WaitForExit(absl::Duration timeout);

  const std::string name_;
  const pid_t pid_;
  const int pid_fd_;
  const int output_fd_;  // read end of a pipe
  const int error_fd_;   // an anonymous file, which never blocks the writer
  std::string unread_;   // read from output_fd_ beyond the last line returned
  bool is_reaped_ = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_CHILD_PROCESS_H_
