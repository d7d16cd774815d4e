#ifndef KVEC_TESTS_WORKER_COMM_PROCESS_GROUP_H_
#define KVEC_TESTS_WORKER_COMM_PROCESS_GROUP_H_

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "worker/comm/comm_endpoint.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::comm {

// The ranks of one stage as processes, forked from the test. What a rank wants to tell, it returns:
// the test gets it as a line of text. Whatever still runs at the end is killed.
class ProcessGroup {
 public:
  using Body = std::function<std::string(CommEndpoint&, GroupComm&)>;

  ProcessGroup(int num_ranks, const CommEndpoint::Options& options, const Body& body);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  // Waits until the rank writes its next line: "connected", what the body has sent with Tell, or
  // what it returned. Nothing when it ends without one, or after a minute.
  std::optional<std::string> Hear(int rank);

  void Kill(int rank, int signal);

  // For the body: a line to the test before it returns.
  static void Tell(const std::string& line);

 private:
  struct Process {
    pid_t pid = -1;
    int fd = -1;  // of a socket to the rank
  };

  std::vector<Process> processes_;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_TESTS_WORKER_COMM_PROCESS_GROUP_H_
