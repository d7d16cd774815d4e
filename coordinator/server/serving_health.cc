#include "coordinator/server/serving_health.h"

#include "kvec/v1/inference.grpc.pb.h"

namespace kvec::coordinator::server {

void ServingHealth::Attach(grpc::HealthCheckServiceInterface* service) {
  const std::lock_guard lock(mutex_);
  service_ = service;
  Publish();
}

void ServingHealth::SetGroupReady(bool ready) {
  const std::lock_guard lock(mutex_);
  group_ready_ = ready;
  Publish();
}

void ServingHealth::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  Publish();
}

void ServingHealth::Publish() {
  if (service_ == nullptr) return;
  const bool serving = group_ready_ && !draining_;
  service_->SetServingStatus(serving);  // every known service, the overall "" too
  service_->SetServingStatus(v1::Inference::service_full_name(), serving);
}

}  // namespace kvec::coordinator::server
