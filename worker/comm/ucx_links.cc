#include "worker/comm/ucx_links.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"

namespace kvec::worker::comm {
namespace {

// A peer that runs on another core answers within microseconds: asking is quicker than being woken.
// One that shares this core gets it by sched_yield, and by the sleep when it takes long.
constexpr int kSpins = 200;
constexpr absl::Duration kYieldTime = absl::Microseconds(200);
// UCX has timers of its own, which only run inside Progress.
constexpr absl::Duration kLongestSleep = absl::Milliseconds(100);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

UcxLinks::UcxLinks(std::unique_ptr<UcxWorker> shared_memory, std::unique_ptr<UcxWorker> tcp)
    : shared_memory_(std::move(shared_memory)),
      tcp_(std::move(tcp)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_fd_ < 0) {
    wake_status_ = absl::ResourceExhaustedError(absl::StrCat("eventfd: ", strerror(errno)));
  }
}

UcxLinks::~UcxLinks() {
  if (wake_fd_ >= 0) close(wake_fd_);
}

absl::Status UcxLinks::Connect(absl::Span<const PeerAddress> members, int self) {
  self_ = self;
  const PeerAddress& mine = members[self];
  for (int i = 0; i < static_cast<int>(members.size()); ++i) {
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>());
    peer.index = i;
    peer.links = this;
    if (i == self) continue;
    const PeerAddress& member = members[i];
    const bool shares_memory = shared_memory_ != nullptr && !member.shared_memory.empty() &&
                               member.host_id == mine.host_id;
    if (!shares_memory && (tcp_ == nullptr || member.tcp.empty())) {
      return absl::FailedPreconditionError(
          absl::StrCat("member ", i, " of the group ",
                       member.host_id == mine.host_id ? "shares no memory" : "is on another host",
                       " and TCP is not offered by ", tcp_ == nullptr ? "this worker" : "it"));
    }
    peer.worker = shares_memory ? shared_memory_.get() : tcp_.get();
    peer.is_over_tcp = !shares_memory;
    absl::StatusOr<ucp_ep_h> endpoint = peer.worker->Connect(
        shares_memory ? member.shared_memory : member.tcp, &UcxLinks::OnPeerError, &peer);
    if (!endpoint.ok()) {
      return absl::Status(
          endpoint.status().code(),
          absl::StrCat("member ", i, " of the group: ", endpoint.status().message()));
    }
    peer.endpoint = *endpoint;
    if (std::find(in_use_.begin(), in_use_.end(), peer.worker) == in_use_.end()) {
      in_use_.push_back(peer.worker);
    }
  }
  return absl::OkStatus();
}

void UcxLinks::OnPeerError(void* argument, ucp_ep_h endpoint, ucs_status_t status) {
  const Peer& peer = *static_cast<Peer*>(argument);
  if (!peer.links->peer_error_.ok()) return;
  peer.links->peer_error_ = absl::UnavailableError(
      absl::StrCat("member ", peer.index, " of the group is gone: ", ucs_status_string(status)));
}

bool UcxLinks::Progress() {
  bool has_progress = false;
  for (UcxWorker* worker : in_use_) has_progress |= worker->Progress();
  return has_progress;
}

absl::Status UcxLinks::WaitUntil(absl::FunctionRef<bool()> is_done, absl::Time deadline,
                                 absl::string_view what) {
  KVEC_RETURN_IF_ERROR(failure_);
  is_waiting_.store(true, std::memory_order_relaxed);
  const absl::Cleanup end = [this] { is_waiting_.store(false, std::memory_order_relaxed); };
  int num_idle = 0;
  absl::Time idle_since;
  while (!is_done()) {
    if (is_aborted_.load(std::memory_order_acquire)) {
      failure_ = absl::UnavailableError(absl::StrCat(what, ": the group was aborted"));
    } else if (!peer_error_.ok()) {
      failure_ = absl::UnavailableError(absl::StrCat(what, ": ", peer_error_.message()));
    }
    KVEC_RETURN_IF_ERROR(failure_);
    if (Progress()) {
      num_idle = 0;
      continue;
    }
    if (++num_idle < kSpins) {
      Pause();
      continue;
    }
    const absl::Time now = absl::Now();
    if (num_idle == kSpins) idle_since = now;
    if (now >= deadline) {
      failure_ = absl::DeadlineExceededError(absl::StrCat(what, ": no answer in time"));
      return failure_;
    }
    if (now - idle_since < kYieldTime) {
      sched_yield();
    } else {
      KVEC_RETURN_IF_ERROR(failure_ = Sleep(deadline));
    }
  }
  return absl::OkStatus();
}

absl::Status UcxLinks::Sleep(absl::Time deadline) {
  std::vector<pollfd> fds = {{.fd = wake_fd_, .events = POLLIN, .revents = 0}};
  for (UcxWorker* worker : in_use_) {
    KVEC_ASSIGN_OR_RETURN(const bool is_armed, worker->Arm());
    if (!is_armed) return absl::OkStatus();
    fds.push_back({.fd = worker->event_fd(), .events = POLLIN, .revents = 0});
  }
  const absl::Duration time =
      std::clamp(deadline - absl::Now(), absl::ZeroDuration(), kLongestSleep);
  poll(fds.data(), fds.size(), static_cast<int>(absl::ToInt64Milliseconds(time)) + 1);
  return absl::OkStatus();
}

void UcxLinks::Abort() {
  is_aborted_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

}  // namespace kvec::worker::comm
