#ifndef KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_
#define KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_

#include <grpcpp/health_check_service_interface.h>

#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"

namespace kvec::coordinator::server {

// What grpc.health.v1 says. Overall and for each of our services, SERVING while a group of workers
// is ready and the server is not draining: whether requests should come here. For kLiveness,
// SERVING unless the coordinator hangs: whether it is to be started anew, which missing workers are
// no reason for. Thread-safe.
class ServingHealth {
 public:
  static constexpr char kLiveness[] = "kvec.Liveness";

  // Keeps the health service of a started server, which has the services `names`, up to date,
  // beside those attached before; NOT_SERVING until a group is ready. It must live until Detach.
  void Attach(grpc::HealthCheckServiceInterface* service, std::vector<std::string> names);
  void Detach();

  void SetGroupReady(bool ready);
  void SetAlive(bool alive);
  void Drain();

  bool is_group_ready() const;
  bool is_draining() const;

 private:
  struct Server {
    grpc::HealthCheckServiceInterface* service;
    std::vector<std::string> names;
  };

  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable std::mutex mutex_;
  std::vector<Server> servers_ ABSL_GUARDED_BY(mutex_);
  bool group_ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool alive_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_
