#include "worker/comm/nccl/nccl_handle.h"

#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace kvec::worker::comm::nccl {
namespace {

// Of a call that has not ended yet, and of errors while something is queued.
constexpr absl::Duration kCallInterval = absl::Microseconds(100);
constexpr absl::Duration kWatchInterval = absl::Milliseconds(10);

}  // namespace

NcclHandle::NcclHandle(const NcclLibrary& nccl) : nccl_(nccl), watch_([this] { Watch(); }) {}

NcclHandle::~NcclHandle() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    Fail(absl::UnavailableError("the group is no more"));
  }
  watch_.join();
}

absl::Status NcclHandle::Connect(const ncclUniqueId& id, int rank, int size,
                                 absl::Duration timeout) {
  const std::lock_guard lock(mutex_);
  KVEC_RETURN_IF_ERROR(failure_);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t result = nccl_.init_rank(&comm, size, id, rank, &config);
  comm_ = comm;
  is_waiting_ = true;
  const absl::Status status = Await("connecting", result, absl::Now() + timeout);
  is_waiting_ = false;
  return status;
}

void NcclHandle::set_timeout(absl::Duration timeout) {
  const std::lock_guard lock(mutex_);
  timeout_ = timeout;
}

absl::Status NcclHandle::Queue(absl::string_view what,
                               absl::FunctionRef<ncclResult_t(ncclComm_t)> operation) {
  const std::lock_guard lock(mutex_);
  KVEC_RETURN_IF_ERROR(failure_);
  if (comm_ == nullptr) return absl::InternalError(absl::StrCat(what, ": not connected"));
  const absl::Time deadline = absl::Now() + timeout_;
  is_waiting_ = true;
  KVEC_RETURN_IF_ERROR(Await(what, operation(comm_), deadline));
  SetDeadline(deadline);
  return absl::OkStatus();
}

absl::Status NcclHandle::BeforeLaunch() {
  const std::lock_guard lock(mutex_);
  KVEC_RETURN_IF_ERROR(failure_);
  is_waiting_ = true;
  SetDeadline(absl::Now() + timeout_);
  return absl::OkStatus();
}

void NcclHandle::SetDeadline(absl::Time deadline) {
  if (deadline_ != absl::InfiniteFuture()) return;  // of what was queued before
  deadline_ = deadline;
  changed_.notify_all();
}

absl::Status NcclHandle::Await(absl::string_view what, ncclResult_t result, absl::Time deadline) {
  while (result == ncclInProgress) {
    changed_.wait_for(mutex_, absl::ToChronoNanoseconds(kCallInterval));
    KVEC_RETURN_IF_ERROR(failure_);
    if (absl::Now() > deadline) {
      Fail(absl::DeadlineExceededError(absl::StrCat(what, ": the other ranks do not answer")));
      return failure_;
    }
    const ncclResult_t asked = nccl_.get_async_error(comm_, &result);
    if (asked != ncclSuccess) result = asked;
  }
  if (result != ncclSuccess) Fail(nccl_.ToStatus(result, what));
  return failure_;
}

absl::Status NcclHandle::Completed() {
  const std::lock_guard lock(mutex_);
  CheckAsyncError();
  deadline_ = absl::InfiniteFuture();
  is_waiting_ = false;
  return failure_;
}

void NcclHandle::CheckAsyncError() {
  if (comm_ == nullptr) return;
  ncclResult_t result = ncclSuccess;
  const ncclResult_t asked = nccl_.get_async_error(comm_, &result);
  if (asked != ncclSuccess) result = asked;
  if (result == ncclSuccess || result == ncclInProgress) return;
  Fail(nccl_.ToStatus(result, "collective"));
}

void NcclHandle::Abort() {
  const std::lock_guard lock(mutex_);
  Fail(absl::UnavailableError("the group was aborted"));
}

void NcclHandle::Fail(absl::Status failure) {
  if (failure_.ok()) failure_ = std::move(failure);
  changed_.notify_all();
}

void NcclHandle::Watch() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (!failure_.ok() && comm_ != nullptr) {
      const ncclComm_t comm = std::exchange(comm_, nullptr);
      lock.unlock();
      (void)nccl_.abort(comm);
      lock.lock();
    } else if (ends_) {
      return;
    } else if (deadline_ == absl::InfiniteFuture() || !failure_.ok()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, absl::ToChronoNanoseconds(kWatchInterval));
      if (absl::Now() > deadline_) {
        Fail(absl::DeadlineExceededError("collective: the other ranks do not come"));
      }
      CheckAsyncError();
    }
  }
}

}  // namespace kvec::worker::comm::nccl
