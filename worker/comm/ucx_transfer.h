#ifndef KVEC_WORKER_COMM_UCX_TRANSFER_H_
#define KVEC_WORKER_COMM_UCX_TRANSFER_H_

#include <ucp/api/ucp.h>

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/ucx_links.h"

namespace kvec::worker::comm {

// Messages to and from members of a group that are under way together. Example:
//
//   UcxTransfer transfer(links, "all-gather");
//   transfer.Receive(1, tag, theirs);
//   transfer.Send(1, tag, mine);
//   KVEC_RETURN_IF_ERROR(transfer.Wait(deadline));
//
// Bit 23 of tags is UcxTransfer's own. The data must stay where it is until Wait has returned; after an error, for as long as `links`
// moves data, which it does not do again.
class UcxTransfer {
 public:
  UcxTransfer(UcxLinks& links, absl::string_view what) : links_(links), what_(what) {}
  ~UcxTransfer();
  UcxTransfer(const UcxTransfer&) = delete;
  UcxTransfer& operator=(const UcxTransfer&) = delete;

  void Receive(int from, uint64_t tag, absl::Span<uint8_t> data);
  void Send(int to, uint64_t tag, absl::Span<const uint8_t> data);

  // INTERNAL when a message had another size than it was received with.
  absl::Status Wait(absl::Time deadline);

 private:
  struct Request {
    void* handle = nullptr;
    ucp_worker_h worker = nullptr;
    int member = 0;
    bool is_receive = false;
    size_t num_bytes = 0;
  };

  void Add(ucs_status_ptr_t posted, const Request& request);
  bool IsDone();
  void Fail(absl::Status status);

  UcxLinks& links_;
  const absl::string_view what_;
  absl::InlinedVector<Request, 8> pending_;
  absl::Status status_;  // the first error of a request
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_UCX_TRANSFER_H_
