#include "worker/comm/nccl/nccl_communicator.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::comm::nccl {

absl::Status NcclCommunicator::CheckPeer(absl::string_view what, int peer) const {
  if (peer >= 0 && peer < size_ && peer != rank_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " rank ", peer, " by rank ", rank_, " of ", size_));
}

absl::Status NcclCommunicator::AllReduceSum(kernels::Tensor x) {
  const size_t num_floats = static_cast<size_t>(x.rows) * static_cast<size_t>(x.cols);
  if (num_floats == 0) return absl::OkStatus();
  const trace::ScopedSpan span("all-reduce", num_floats * sizeof(float));
  const auto sum = [&](float* data, size_t count) {
    return handle_->Queue("all-reduce", [&](ncclComm_t comm) {
      return handle_->nccl().all_reduce(data, data, count, ncclFloat32, ncclSum, comm, stream_);
    });
  };
  if (x.stride == x.cols || x.rows == 1) return sum(x.data, num_floats);
  for (int row = 0; row < x.rows; ++row) {
    KVEC_RETURN_IF_ERROR(sum(x.data + row * x.stride, static_cast<size_t>(x.cols)));
  }
  return absl::OkStatus();
}

// Not under the handle's lock: the launch may block. When the communicator is aborted meanwhile it
// stays until the graph is gone, and its operations quit.
absl::Status NcclCommunicator::Launch(absl::FunctionRef<absl::Status()> launch) {
  KVEC_RETURN_IF_ERROR(handle_->BeforeLaunch());
  return launch();
}

absl::Status NcclCommunicator::AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) {
  if (all.size() != mine.size() * static_cast<size_t>(size_)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "all-gather: ", mine.size(), " bytes of each of ", size_, " ranks into ", all.size()));
  }
  return handle_->Queue("all-gather", [&](ncclComm_t comm) {
    return handle_->nccl().all_gather(mine.data(), all.data(), mine.size(), ncclUint8, comm,
                                      stream_);
  });
}

absl::Status NcclCommunicator::Broadcast(int root, absl::Span<uint8_t> data) {
  if (root < 0 || root >= size_) {
    return absl::InvalidArgumentError(absl::StrCat("broadcast: root ", root, " of ", size_));
  }
  return handle_->Queue("broadcast", [&](ncclComm_t comm) {
    return handle_->nccl().broadcast(data.data(), data.data(), data.size(), ncclUint8, root, comm,
                                     stream_);
  });
}

absl::Status NcclCommunicator::Send(int to, absl::Span<const uint8_t> data) {
  KVEC_RETURN_IF_ERROR(CheckPeer("send: to", to));
  const trace::ScopedSpan span("send", data.size());
  return handle_->Queue("send", [&](ncclComm_t comm) {
    return handle_->nccl().send(data.data(), data.size(), ncclUint8, to, comm, stream_);
  });
}

absl::Status NcclCommunicator::Receive(int from, absl::Span<uint8_t> data) {
  KVEC_RETURN_IF_ERROR(CheckPeer("receive: from", from));
  const trace::ScopedSpan span("receive");
  return handle_->Queue("receive", [&](ncclComm_t comm) {
    return handle_->nccl().receive(data.data(), data.size(), ncclUint8, from, comm, stream_);
  });
}

}  // namespace kvec::worker::comm::nccl
