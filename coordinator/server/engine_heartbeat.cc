#include "coordinator/server/engine_heartbeat.h"

#include "common/logging.h"

namespace kvec::coordinator::server {

void EngineHeartbeat::Start() {
  thread_ = std::thread([this] { Run(); });
}

void EngineHeartbeat::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EngineHeartbeat::Run() {
  bool is_alive = false;
  int missed = 0;
  uint64_t num_turns = options_.num_turns();
  while (true) {
    options_.ask();
    if (!Sleep()) return;
    const uint64_t now = options_.num_turns();
    missed = now == num_turns ? missed + 1 : 0;
    num_turns = now;
    if (missed == 0 && !is_alive) {
      options_.on_changed(is_alive = true);
    } else if (missed == options_.max_missed && is_alive) {
      LOG(ERROR) << "coordinator: hangs: no Step could be composed for "
                 << absl::FormatDuration(options_.interval * missed);
      options_.on_changed(is_alive = false);
    }
  }
}

bool EngineHeartbeat::Sleep() {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, absl::ToChronoNanoseconds(options_.interval),
                         [this] { return stopping_; });
}

}  // namespace kvec::coordinator::server
