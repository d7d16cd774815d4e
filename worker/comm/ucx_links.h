#ifndef KVEC_WORKER_COMM_UCX_LINKS_H_
#define KVEC_WORKER_COMM_UCX_LINKS_H_

#include <ucp/api/ucp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/peer_address.h"
#include "worker/comm/ucx_worker.h"

namespace kvec::worker::comm {

// A worker's connections to the members of one group, and the waiting for them. Peers of this host
// are reached over shared memory, others over TCP. One thread uses it; Abort and is_waiting are for
// any. It serves one group: after an error UCX may still hold buffers of the operation that failed,
// and a killed peer may have left this worker's receive queue half written.
class UcxLinks {
 public:
  // Either may be null.
  UcxLinks(std::unique_ptr<UcxWorker> shared_memory, std::unique_ptr<UcxWorker> tcp);
  ~UcxLinks();
  UcxLinks(const UcxLinks&) = delete;
  UcxLinks& operator=(const UcxLinks&) = delete;

  absl::Status status() const { return wake_fd_ < 0 ? wake_status_ : absl::OkStatus(); }

  // Opens a connection to every member but `self`. FAILED_PRECONDITION when one can't be reached
  // with what both offer. Once.
  absl::Status Connect(absl::Span<const PeerAddress> members, int self);

  struct Peer {
    UcxWorker* worker = nullptr;  // null: this worker itself
    ucp_ep_h endpoint = nullptr;
    bool is_over_tcp = false;
    int index = 0;
    UcxLinks* links = nullptr;
  };
  const Peer& peer(int index) const { return *peers_[index]; }
  int self() const { return self_; }

  // Moves data until `is_done`. UNAVAILABLE when aborted or when a peer is gone, else
  // DEADLINE_EXCEEDED; `what` begins the message. After an error every further call fails.
  absl::Status WaitUntil(absl::FunctionRef<bool()> is_done, absl::Time deadline,
                         absl::string_view what);

  // Makes every further wait fail; for errors that UCX tells of a message.
  void Break(absl::Status failure) { failure_ = std::move(failure); }

  void Abort();
  bool is_waiting() const { return is_waiting_.load(std::memory_order_relaxed); }

 private:
  static void OnPeerError(void* argument, ucp_ep_h endpoint, ucs_status_t status);
  bool Progress();
  // Sleeps until there is something to do, an Abort, or the deadline. Wakes early at times.
  absl::Status Sleep(absl::Time deadline);

  std::unique_ptr<UcxWorker> shared_memory_;
  std::unique_ptr<UcxWorker> tcp_;
  std::vector<UcxWorker*> in_use_;  // by some peer
  std::vector<std::unique_ptr<Peer>> peers_;
  int self_ = 0;
  absl::Status peer_error_;
  absl::Status failure_;

  int wake_fd_ = -1;  // readable after Abort
  absl::Status wake_status_;
  std::atomic<bool> is_aborted_ = false;
  std::atomic<bool> is_waiting_ = false;
};

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_UCX_LINKS_H_
