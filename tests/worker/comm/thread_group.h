#ifndef KVEC_TESTS_WORKER_COMM_THREAD_GROUP_H_
#define KVEC_TESTS_WORKER_COMM_THREAD_GROUP_H_

#include <functional>
#include <memory>
#include <vector>

#include "worker/comm/comm_endpoint.h"
#include "worker/comm/group_comm.h"

namespace kvec::worker::comm {

// The workers of a group as threads of the test, over the real communicator.
class ThreadGroup {
 public:
  struct Shape {
    int num_stages = 1;
    int num_ranks = 1;
    uint64_t epoch = 1;
  };

  // Connects them, or fails the test.
  ThreadGroup(const Shape& shape, const CommEndpoint::Options& options);

  // Runs `body` once per worker, each in a thread of its own, and waits for all.
  void Run(const std::function<void(GroupComm&)>& body);

  int size() const { return static_cast<int>(comms_.size()); }
  CommEndpoint& endpoint(int index) { return *endpoints_[index]; }
  GroupComm& comm(int index) { return *comms_[index]; }

 private:
  std::vector<std::unique_ptr<CommEndpoint>> endpoints_;
  std::vector<std::unique_ptr<GroupComm>> comms_;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_TESTS_WORKER_COMM_THREAD_GROUP_H_
