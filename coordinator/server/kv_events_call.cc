#include "coordinator/server/kv_events_call.h"

#include <vector>

#include "absl/time/clock.h"
#include "common/grpc_status.h"

namespace kvec::coordinator::server {
namespace {

// Of a batch: the first is made under the scheduler's lock, in which this takes about 0.1 ms.
constexpr size_t kMaxEvents = 256;

}  // namespace

void KvEventsCall::Start(scheduler::Scheduler& scheduler) {
  self_ = shared_from_this();
  feed_ = std::make_shared<scheduler::PrefixFeed>([weak = weak_from_this()] {
    if (const std::shared_ptr<KvEventsCall> call = weak.lock()) call->Advance();
  });
  const absl::Status status = scheduler.Subscribe(feed_);
  if (!status.ok()) End(ToGrpcStatus(status));
}

void KvEventsCall::Refuse(const absl::Status& status) {
  self_ = shared_from_this();
  End(ToGrpcStatus(status));
}

void KvEventsCall::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok && !end_status_.has_value()) end_status_ = grpc::Status::CANCELLED;
  }
  Advance();
}

void KvEventsCall::OnCancel() { End(grpc::Status::CANCELLED); }

void KvEventsCall::Advance() {
  std::unique_lock lock(mutex_);
  if (writing_ || finished_) return;
  if (end_status_.has_value()) {
    finished_ = true;
    const grpc::Status status = *end_status_;
    lock.unlock();
    Finish(status);
    return;
  }
  const std::vector<scheduler::PrefixEvent> events = feed_->Take(kMaxEvents);
  if (events.empty()) return;
  batch_ = translation_.Translate(events, absl::Now());
  writing_ = true;
  lock.unlock();
  StartWrite(&batch_);
}

void KvEventsCall::End(const grpc::Status& status) {
  {
    const std::lock_guard lock(mutex_);
    if (!end_status_.has_value()) end_status_ = status;
  }
  Advance();
}

}  // namespace kvec::coordinator::server
