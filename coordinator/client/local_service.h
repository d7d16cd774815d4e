#ifndef KVEC_COORDINATOR_CLIENT_LOCAL_SERVICE_H_
#define KVEC_COORDINATOR_CLIENT_LOCAL_SERVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/client/child_process.h"

namespace kvec::coordinator::client {

// A coordinator with one worker, started from the folder of this program on free ports of
// 127.0.0.1, ended with this object. Create it on the main thread (see ChildProcess).
class LocalService {
 public:
  struct Options {
    std::string model;  // GGUF file or Hugging Face folder
    std::vector<std::string> coordinator_flags;
    std::vector<std::string> worker_flags;
    absl::Duration start_timeout = absl::Minutes(10);
  };

  // Returns when the worker serves. UNAVAILABLE with what a process wrote when one of them ends
  // before that, a model that can't be opened included.
  static absl::StatusOr<std::unique_ptr<LocalService>> Start(const Options& options);

  // HOST:PORT of the coordinator.
  const std::string& target() const { return target_; }

 private:
  LocalService() = default;
  absl::Status StartCoordinator(const std::string& folder, const Options& options,
                                absl::Time deadline);
  absl::Status WaitUntilServing(absl::Time deadline);

  std::string target_;
  std::string cluster_;                        // where workers attach
  std::unique_ptr<ChildProcess> coordinator_;  // ended last
  std::unique_ptr<ChildProcess> worker_;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_LOCAL_SERVICE_H_
