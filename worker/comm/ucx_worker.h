#ifndef KVEC_WORKER_COMM_UCX_WORKER_H_
#define KVEC_WORKER_COMM_UCX_WORKER_H_

#include <ucp/api/ucp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::worker::comm {

// One of UCX's workers with its context: what it calls an interface to a set of transports. It
// moves data only inside Progress. One thread at a time. UCX adds a thread to the process, which
// sleeps: it only watches connections being made.
class UcxWorker {
 public:
  // Over shared memory to processes of this host. A killed peer is not noticed: whoever waits for
  // it must be told.
  static absl::StatusOr<std::unique_ptr<UcxWorker>> CreateSharedMemory();
  // Over TCP, listening on one network interface, on a port that the system chooses. A killed peer
  // is noticed.
  static absl::StatusOr<std::unique_ptr<UcxWorker>> CreateTcp(const std::string& interface);

  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  const std::string& address() const { return address_; }

  // Opens a way to the worker with this address. `on_error`, with `argument`, is called from inside
  // Progress when it breaks; never over shared memory. It closes with the worker.
  absl::StatusOr<ucp_ep_h> Connect(absl::string_view address, ucp_err_handler_cb_t on_error,
                                   void* argument);

  // Whether anything was done.
  bool Progress() { return ucp_worker_progress(worker_) > 0; }
  // Makes event_fd readable as soon as there is something to do. False: there already is.
  absl::StatusOr<bool> Arm();
  int event_fd() const { return event_fd_; }

  ucp_worker_h handle() const { return worker_; }

 private:
  struct Transport {
    const char* names;
    std::string interface;  // empty: does not matter
    bool notices_death = false;
  };

  explicit UcxWorker(bool notices_death) : notices_death_(notices_death) {}
  static absl::StatusOr<std::unique_ptr<UcxWorker>> Create(const Transport& transport);
  absl::Status Open(const Transport& transport);

  const bool notices_death_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;  // UCX's
  std::string address_;
};

// "what: UCX's message", with the code that fits.
absl::Status UcxError(absl::string_view what, ucs_status_t status);

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_UCX_WORKER_H_
