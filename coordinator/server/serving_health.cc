#include "coordinator/server/serving_health.h"

#include <utility>

namespace kvec::coordinator::server {

void ServingHealth::Attach(grpc::HealthCheckServiceInterface* service,
                           std::vector<std::string> names) {
  const std::lock_guard lock(mutex_);
  servers_.push_back({service, std::move(names)});
  Publish();
}

void ServingHealth::Detach() {
  const std::lock_guard lock(mutex_);
  servers_.clear();
}

void ServingHealth::SetGroupReady(bool ready) {
  const std::lock_guard lock(mutex_);
  group_ready_ = ready;
  Publish();
}

void ServingHealth::SetAlive(bool alive) {
  const std::lock_guard lock(mutex_);
  alive_ = alive;
  Publish();
}

void ServingHealth::Drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  Publish();
}

bool ServingHealth::is_group_ready() const {
  const std::lock_guard lock(mutex_);
  return group_ready_;
}

bool ServingHealth::is_draining() const {
  const std::lock_guard lock(mutex_);
  return draining_;
}

void ServingHealth::Publish() {
  const bool serving = group_ready_ && !draining_;
  for (const Server& server : servers_) {
    server.service->SetServingStatus("", serving);  // overall
    for (const std::string& name : server.names) server.service->SetServingStatus(name, serving);
    server.service->SetServingStatus(kLiveness, alive_);
  }
}

}  // namespace kvec::coordinator::server
