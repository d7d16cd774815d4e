#include "worker/comm/local_communicator.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::comm {

absl::Status LocalCommunicator::CheckNotAborted() const {
  if (is_aborted_) return absl::UnavailableError("the group was aborted");
  return absl::OkStatus();
}

absl::Status LocalCommunicator::AllReduceSum(kernels::Tensor x) { return CheckNotAborted(); }

absl::Status LocalCommunicator::AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) {
  KVEC_RETURN_IF_ERROR(CheckNotAborted());
  if (all.size() != mine.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("all-gather: ", mine.size(), " bytes of 1 rank into ", all.size()));
  }
  if (!mine.empty() && mine.data() != all.data()) {
    std::memmove(all.data(), mine.data(), mine.size());
  }
  return absl::OkStatus();
}

absl::Status LocalCommunicator::Broadcast(int root, absl::Span<uint8_t> data) {
  KVEC_RETURN_IF_ERROR(CheckNotAborted());
  if (root == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("broadcast: root ", root, " of 1 rank"));
}

absl::Status LocalCommunicator::Send(int to, absl::Span<const uint8_t> data) {
  return absl::InvalidArgumentError(absl::StrCat("send: to rank ", to, " from the only one"));
}

absl::Status LocalCommunicator::Receive(int from, absl::Span<uint8_t> data) {
  return absl::InvalidArgumentError(absl::StrCat("receive: from rank ", from, " by the only one"));
}

}  // namespace kvec::worker::comm
