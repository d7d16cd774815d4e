#ifndef KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_
#define KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_

#include <grpcpp/health_check_service_interface.h>

#include <mutex>

#include "absl/base/thread_annotations.h"

namespace kvec::coordinator::server {

// What grpc.health.v1 says, overall and for kvec.v1.Inference: SERVING while a group of workers is
// ready and the server is not draining. Thread-safe.
class ServingHealth {
 public:
  // The service of a started server, which must outlive the last change; NOT_SERVING until a group
  // is ready.
  void Attach(grpc::HealthCheckServiceInterface* service);

  void SetGroupReady(bool ready);
  void Drain();

 private:
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::mutex mutex_;
  grpc::HealthCheckServiceInterface* service_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool group_ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_SERVING_HEALTH_H_
