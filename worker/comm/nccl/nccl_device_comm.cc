#include "worker/comm/nccl/nccl_device_comm.h"

#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "common/status_macros.h"
#include "worker/comm/local_communicator.h"
#include "worker/comm/nccl/nccl_communicator.h"

namespace kvec::worker::comm::nccl {
namespace {

// What rank 0 tells the others, who wait for it also when it has no id.
struct IdMessage {
  ncclUniqueId id = {};
  int32_t result = ncclSuccess;
};

}  // namespace

absl::Status NcclDeviceComm::Connect(const Timeouts& timeouts, GroupComm& comm) {
  KVEC_ASSIGN_OR_RETURN(const NcclLibrary* const nccl, NcclLibrary::Open());
  KVEC_ASSIGN_OR_RETURN(comm.device_group, ConnectAs(*nccl, timeouts, *comm.group));
  KVEC_ASSIGN_OR_RETURN(comm.device_ranks, ConnectAs(*nccl, timeouts, *comm.ranks));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Communicator>> NcclDeviceComm::ConnectAs(const NcclLibrary& nccl,
                                                                        const Timeouts& timeouts,
                                                                        Communicator& host) {
  if (host.size() == 1) return std::make_unique<LocalCommunicator>();
  IdMessage message;
  if (host.rank() == 0) message.result = nccl.get_unique_id(&message.id);
  KVEC_RETURN_IF_ERROR(host.Broadcast(0, {reinterpret_cast<uint8_t*>(&message), sizeof(message)}));
  KVEC_RETURN_IF_ERROR(
      nccl.ToStatus(static_cast<ncclResult_t>(message.result), "rank 0's unique id"));
  KVEC_ASSIGN_OR_RETURN(auto handle, NewHandle(nccl));
  KVEC_RETURN_IF_ERROR(handle->Connect(message.id, host.rank(), host.size(), timeouts.connect));
  handle->set_timeout(timeouts.operation);
  return std::make_unique<NcclCommunicator>(std::move(handle), host.rank(), host.size(), stream_);
}

absl::StatusOr<std::shared_ptr<NcclHandle>> NcclDeviceComm::NewHandle(const NcclLibrary& nccl) {
  auto handle = std::make_shared<NcclHandle>(nccl);
  const std::lock_guard lock(mutex_);
  if (is_aborted_) return absl::UnavailableError("the group was aborted");
  handles_.push_back(handle);
  return handle;
}

void NcclDeviceComm::Abort() {
  const std::lock_guard lock(mutex_);
  is_aborted_ = true;
  for (const auto& weak : handles_) {
    if (const auto handle = weak.lock()) handle->Abort();
  }
}

void NcclDeviceComm::Renew() {
  const std::lock_guard lock(mutex_);
  is_aborted_ = false;
  handles_.clear();
}

bool NcclDeviceComm::is_waiting() const {
  const std::lock_guard lock(mutex_);
  for (const auto& weak : handles_) {
    const auto handle = weak.lock();
    if (handle != nullptr && handle->is_waiting()) return true;
  }
  return false;
}

}  // namespace kvec::worker::comm::nccl
