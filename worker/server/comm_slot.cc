#include "worker/server/comm_slot.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/route.h"

namespace kvec::worker::server {

absl::Status CommSlot::Renew(const std::string& coordinator) {
  comm::CommEndpoint::Options options = options_;
  if (options.interface.empty() && options.transport != comm::Transport::kSharedMemory) {
    absl::StatusOr<std::string> interface = comm::InterfaceTowards(coordinator);
    if (absl::IsUnavailable(interface.status())) return interface.status();
    options.interface = std::move(interface).value_or("");
  }
  if (device_comm_ != nullptr) device_comm_->Renew();
  {
    // The old one first, so that its memory is free again.
    absl::MutexLock lock(&mutex_);
    endpoint_ = nullptr;
  }
  absl::StatusOr<std::unique_ptr<comm::CommEndpoint>> made = comm::CommEndpoint::Create(options);
  absl::MutexLock lock(&mutex_);
  why_none_ = made.status();
  if (made.ok()) {
    endpoint_ = *std::move(made);
  } else {
    LOG(WARNING) << "no communicator, this worker can only be alone: " << why_none_.message();
  }
  return absl::OkStatus();
}

std::shared_ptr<comm::CommEndpoint> CommSlot::endpoint() const {
  absl::MutexLock lock(&mutex_);
  return endpoint_;
}

std::string CommSlot::address() const {
  const std::shared_ptr<comm::CommEndpoint> current = endpoint();
  return current == nullptr ? "" : current->address();
}

absl::StatusOr<std::unique_ptr<comm::GroupComm>> CommSlot::Connect(const v1::FormGroup& form) {
  const v1::Placement& placement = form.placement();
  if (placement.num_stages() == 1 && placement.num_ranks() == 1) {
    // Its buffers are some MB. Before another group there is an abort, and then a new one.
    absl::MutexLock lock(&mutex_);
    endpoint_ = nullptr;
    return nullptr;
  }
  const std::shared_ptr<comm::CommEndpoint> current = endpoint();
  if (current == nullptr) {
    absl::MutexLock lock(&mutex_);
    return absl::FailedPreconditionError(absl::StrCat("no communicator: ", why_none_.message()));
  }
  const std::vector<std::string> addresses(form.comm_addresses().begin(),
                                           form.comm_addresses().end());
  KVEC_ASSIGN_OR_RETURN(auto group,
                        current->Connect({.epoch = form.group_epoch(),
                                          .stage = static_cast<int>(placement.stage()),
                                          .num_stages = static_cast<int>(placement.num_stages()),
                                          .rank = static_cast<int>(placement.rank()),
                                          .num_ranks = static_cast<int>(placement.num_ranks()),
                                          .has_device_memory = device_comm_ != nullptr},
                                         addresses));
  if (device_comm_ != nullptr) {
    KVEC_RETURN_IF_ERROR(device_comm_->Connect(
        {.connect = options_.connect_timeout, .operation = options_.timeout}, *group));
  }
  return group;
}

void CommSlot::Abort() {
  const std::shared_ptr<comm::CommEndpoint> current = endpoint();
  if (current != nullptr) current->Abort();
  if (device_comm_ != nullptr) device_comm_->Abort();
}

bool CommSlot::is_waiting() const {
  const std::shared_ptr<comm::CommEndpoint> current = endpoint();
  return (current != nullptr && current->is_waiting()) ||
         (device_comm_ != nullptr && device_comm_->is_waiting());
}

}  // namespace kvec::worker::server
