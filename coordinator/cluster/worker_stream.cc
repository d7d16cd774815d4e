#include "coordinator/cluster/worker_stream.h"

#include <utility>

#include "common/grpc_status.h"

namespace kvec::coordinator::cluster {

void WorkerStream::Start() {
  self_ = shared_from_this();
  id_ = pump_.Attach(self_);
  StartRead(&incoming_);
}

void WorkerStream::Send(v1::CoordinatorMessage message) {
  {
    const std::lock_guard lock(mutex_);
    if (close_status_.has_value()) return;
    queue_.push_back(std::move(message));
  }
  Advance();
}

void WorkerStream::Close(absl::Status status) {
  {
    const std::lock_guard lock(mutex_);
    if (close_status_.has_value()) return;
    close_status_ = std::move(status);
    queue_.clear();
  }
  Advance();
}

void WorkerStream::OnReadDone(bool ok) {
  if (!ok) {
    pump_.Detach(id_);
    return;
  }
  pump_.Deliver(id_, std::move(incoming_));
  incoming_.Clear();
  StartRead(&incoming_);
}

void WorkerStream::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) queue_.clear();
  }
  if (!ok) pump_.Detach(id_);
  Advance();
}

void WorkerStream::OnCancel() { pump_.Detach(id_); }

void WorkerStream::OnDone() { self_.reset(); }

void WorkerStream::Advance() {
  grpc::Status status;
  bool finish = false;
  {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      outgoing_ = std::move(queue_.front());
      queue_.pop_front();
    } else if (close_status_.has_value()) {
      finished_ = true;
      finish = true;
      status = ToGrpcStatus(*close_status_);
    } else {
      return;
    }
  }
  if (finish) {
    Finish(std::move(status));
  } else {
    StartWrite(&outgoing_);
  }
}

}  // namespace kvec::coordinator::cluster
