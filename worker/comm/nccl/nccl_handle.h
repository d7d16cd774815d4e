#ifndef KVEC_WORKER_COMM_NCCL_NCCL_HANDLE_H_
#define KVEC_WORKER_COMM_NCCL_NCCL_HANDLE_H_

#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/nccl/nccl_library.h"

namespace kvec::worker::comm::nccl {

// One communicator of NCCL, in non-blocking mode, and the thread that watches it. NCCL has no
// deadlines: an operation whose peer is gone holds the stream for ever, and with it whoever waits
// for that. So the watch aborts the communicator when NCCL tells of an error, or when what was
// queued is not known to be done after a timeout; the stream then goes on, with garbage, which
// Completed() tells. An aborted communicator is never destroyed in the orderly way, which would
// wait for the peers.
//
// ncclCommAbort makes what runs on the GPU quit, and then waits until all graphs that hold
// operations of the communicator are gone. So the watch alone calls it, without a lock: whoever
// queues meanwhile learns of the failure, and drops its graphs. They are to be gone before the
// handle is.
//
// One thread connects and queues; Abort and is_waiting are for any.
class NcclHandle {
 public:
  explicit NcclHandle(const NcclLibrary& nccl);
  ~NcclHandle();  // aborts, and waits for that
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // Waits for all `size` ranks. DEADLINE_EXCEEDED, UNAVAILABLE after Abort. Once.
  absl::Status Connect(const ncclUniqueId& id, int rank, int size, absl::Duration timeout);

  // From here on, of an operation: from when it was queued until Completed is called.
  void set_timeout(absl::Duration timeout);

  // Queues an operation. `what` begins the message of an error.
  absl::Status Queue(absl::string_view what, absl::FunctionRef<ncclResult_t(ncclComm_t)> operation);

  // Before a graph that holds operations is launched: from now on they count as queued.
  absl::Status BeforeLaunch();

  // The caller has waited for the stream: whether what was queued was carried out.
  absl::Status Completed();

  void Abort();

  const NcclLibrary& nccl() const { return nccl_; }
  bool is_waiting() const { return is_waiting_.load(std::memory_order_relaxed); }

 private:
  // Until a non-blocking call has come to its end.
  absl::Status Await(absl::string_view what, ncclResult_t result, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckAsyncError() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of what is queued now.
  void SetDeadline(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first failure counts. The watch aborts.
  void Fail(absl::Status failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();

  const NcclLibrary& nccl_;
  // std::mutex: ThreadSanitizer can't see into the packaged absl::Mutex.
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  ncclComm_t comm_ ABSL_GUARDED_BY(mutex_) = nullptr;  // null: not there yet, or aborted
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  absl::Duration timeout_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  absl::Time deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool ends_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> is_waiting_ = false;
  std::thread watch_;
};

}  // namespace kvec::worker::comm::nccl

#endif  // KVEC_WORKER_COMM_NCCL_NCCL_HANDLE_H_
