#include "worker/comm/ucx_transfer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvec::worker::comm {
namespace {

constexpr ucp_tag_t kWholeTag = ~ucp_tag_t{0};

// UCX calls a message sent over TCP when its last bytes wait in a buffer of its own for room in the
// socket, and there they stay while this worker computes. (A flush does not help: it takes the peer
// to answer, which may compute, too.) So a message that could fill a socket is followed by an empty
// one, its tail, which is sent only when that buffer is free again. Nobody waits for a tail to
// arrive.
constexpr ucp_tag_t kTailBit = ucp_tag_t{1} << 23;
constexpr size_t kLongestWithoutTail = 4096;

bool HasTail(const UcxLinks::Peer& peer, size_t num_bytes) {
  return peer.is_over_tcp && num_bytes > kLongestWithoutTail;
}

}  // namespace

UcxTransfer::~UcxTransfer() {
  for (const Request& request : pending_) {
    if (request.is_receive) ucp_request_cancel(request.worker, request.handle);
    ucp_request_free(request.handle);
  }
}

void UcxTransfer::Receive(int from, uint64_t tag, absl::Span<uint8_t> data) {
  const UcxLinks::Peer& peer = links_.peer(from);
  // Always a request, even when the message is there already: without one UCX 1.13 does not tell
  // how long it was.
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  Add(ucp_tag_recv_nbx(peer.worker->handle(), data.data(), data.size(), tag, kWholeTag, &params),
      {.worker = peer.worker->handle(),
       .member = from,
       .is_receive = true,
       .num_bytes = data.size()});
  if (!HasTail(peer, data.size())) return;
  const ucp_request_param_t no_params = {};
  const ucs_status_ptr_t tail =
      ucp_tag_recv_nbx(peer.worker->handle(), nullptr, 0, tag | kTailBit, kWholeTag, &no_params);
  if (UCS_PTR_IS_PTR(tail)) ucp_request_free(tail);  // when it has come
}

void UcxTransfer::Send(int to, uint64_t tag, absl::Span<const uint8_t> data) {
  const UcxLinks::Peer& peer = links_.peer(to);
  ucp_request_param_t params = {};
  Add(ucp_tag_send_nbx(peer.endpoint, data.data(), data.size(), tag, &params),
      {.worker = peer.worker->handle(), .member = to});
  if (!HasTail(peer, data.size())) return;
  Add(ucp_tag_send_nbx(peer.endpoint, nullptr, 0, tag | kTailBit, &params),
      {.worker = peer.worker->handle(), .member = to});
}

void UcxTransfer::Add(ucs_status_ptr_t posted, const Request& request) {
  if (posted == nullptr) return;  // done
  if (UCS_PTR_IS_ERR(posted)) {
    Fail(UcxError(absl::StrCat(what_, ": member ", request.member), UCS_PTR_STATUS(posted)));
    return;
  }
  pending_.push_back(request);
  pending_.back().handle = posted;
}

void UcxTransfer::Fail(absl::Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  links_.Break(status_);
}

bool UcxTransfer::IsDone() {
  while (!pending_.empty() && status_.ok()) {
    const Request request = pending_.back();
    ucp_tag_recv_info_t info = {};
    const ucs_status_t status = request.is_receive
                                    ? ucp_tag_recv_request_test(request.handle, &info)
                                    : ucp_request_check_status(request.handle);
    if (status == UCS_INPROGRESS) return false;
    ucp_request_free(request.handle);
    pending_.pop_back();
    if (status != UCS_OK) {
      Fail(UcxError(absl::StrCat(what_, ": member ", request.member), status));
    } else if (request.is_receive && info.length != request.num_bytes) {
      Fail(absl::InternalError(absl::StrCat(what_, ": member ", request.member, " sent ",
                                            info.length, " bytes, expected ", request.num_bytes)));
    }
  }
  return true;
}

absl::Status UcxTransfer::Wait(absl::Time deadline) {
  const absl::Status waited = links_.WaitUntil([this] { return IsDone(); }, deadline, what_);
  if (!absl::IsDeadlineExceeded(waited)) return waited.ok() ? status_ : waited;
  std::string pending;
  for (const Request& request : pending_) {
    if (ucp_request_check_status(request.handle) != UCS_INPROGRESS) continue;
    absl::StrAppend(&pending, pending.empty() ? "; still to " : ", ",
                    request.is_receive ? "receive from " : "send to ", "member ", request.member);
  }
  return absl::DeadlineExceededError(absl::StrCat(waited.message(), pending));
}

}  // namespace kvec::worker::comm
