#include "worker/comm/ucx_worker.h"

#include <ucs/config/global_opts.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::comm {
namespace {

// Bytes that wait for a receiver which computes: the sender is free again meanwhile. 512 segments
// of 8 KB hold the hidden states of a decode Step many times over, and those of a chunk of 512
// tokens up to 2,000 floats wide.
constexpr char kFifoSegments[] = "512";

// UCX writes to standard output, by default also what our callers learn as a Status.
void QuietLog() {
  [[maybe_unused]] static const bool done = [] {
    ucs_global_opts_set_value("LOG_LEVEL", "fatal");
    return true;
  }();
}

}  // namespace

absl::Status UcxError(absl::string_view what, ucs_status_t status) {
  const std::string message = absl::StrCat(what, ": ", ucs_status_string(status));
  switch (status) {
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
      return absl::ResourceExhaustedError(message);
    case UCS_ERR_INVALID_ADDR:
    case UCS_ERR_INVALID_PARAM:
      return absl::InvalidArgumentError(message);
    case UCS_ERR_MESSAGE_TRUNCATED:
      return absl::InternalError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::StatusOr<std::unique_ptr<UcxWorker>> UcxWorker::CreateSharedMemory() {
  return Create({.names = "posix,self", .interface = "", .notices_death = false});
}

absl::StatusOr<std::unique_ptr<UcxWorker>> UcxWorker::CreateTcp(const std::string& interface) {
  return Create({.names = "tcp", .interface = interface, .notices_death = true});
}

absl::StatusOr<std::unique_ptr<UcxWorker>> UcxWorker::Create(const Transport& transport) {
  QuietLog();
  std::unique_ptr<UcxWorker> worker(new UcxWorker(transport.notices_death));
  KVEC_RETURN_IF_ERROR(worker->Open(transport));
  return worker;
}

absl::Status UcxWorker::Open(const Transport& transport) {
  ucp_config_t* config = nullptr;
  ucs_status_t status = ucp_config_read(nullptr, nullptr, &config);
  if (status != UCS_OK) return UcxError("UCX's configuration", status);
  const absl::Cleanup release_config = [config] { ucp_config_release(config); };
  // Eager always: the rendezvous protocol would leave the receiver waiting until the sender, which
  // has gone on to compute, calls Progress again.
  const std::pair<const char*, const char*> settings[] = {{"TLS", transport.names},
                                                          {"RNDV_THRESH", "inf"}};
  for (const auto& [name, value] : settings) {
    status = ucp_config_modify(config, name, value);
    if (status != UCS_OK) return UcxError(absl::StrCat("UCX's ", name, " ", value), status);
  }
  if (!transport.interface.empty()) {
    status = ucp_config_modify(config, "NET_DEVICES", transport.interface.c_str());
  } else {
    status = ucp_config_modify(config, "MM_FIFO_SIZE", kFifoSegments);
  }
  if (status != UCS_OK) return UcxError("UCX's device settings", status);

  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_TAG | UCP_FEATURE_WAKEUP;
  status = ucp_init(&params, config, &context_);
  if (status != UCS_OK) {
    return UcxError(absl::StrCat("UCX over ", transport.names, " ", transport.interface), status);
  }
  ucp_worker_params_t worker_params = {};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  status = ucp_worker_create(context_, &worker_params, &worker_);
  if (status != UCS_OK) {
    return UcxError(absl::StrCat("UCX's worker over ", transport.names, " ", transport.interface),
                    status);
  }
  status = ucp_worker_get_efd(worker_, &event_fd_);
  if (status != UCS_OK) return UcxError("UCX's event descriptor", status);
  ucp_address_t* address = nullptr;
  size_t num_bytes = 0;
  status = ucp_worker_get_address(worker_, &address, &num_bytes);
  if (status != UCS_OK) return UcxError("UCX's address", status);
  address_.assign(reinterpret_cast<const char*>(address), num_bytes);
  ucp_worker_release_address(worker_, address);
  return absl::OkStatus();
}

UcxWorker::~UcxWorker() {
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

absl::StatusOr<ucp_ep_h> UcxWorker::Connect(absl::string_view address,
                                            ucp_err_handler_cb_t on_error, void* argument) {
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_NONE;  // with PEER it would not use shared memory
  if (notices_death_) {
    params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler.cb = on_error;
    params.err_handler.arg = argument;
  }
  ucp_ep_h endpoint = nullptr;
  const ucs_status_t status = ucp_ep_create(worker_, &params, &endpoint);
  if (status != UCS_OK) return UcxError("connecting", status);
  return endpoint;
}

absl::StatusOr<bool> UcxWorker::Arm() {
  const ucs_status_t status = ucp_worker_arm(worker_);
  if (status == UCS_OK) return true;
  if (status == UCS_ERR_BUSY) return false;
  return UcxError("UCX's event descriptor", status);
}

}  // namespace kvec::worker::comm
