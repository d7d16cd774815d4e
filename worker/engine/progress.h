#ifndef KVEC_WORKER_ENGINE_PROGRESS_H_
#define KVEC_WORKER_ENGINE_PROGRESS_H_

#include <atomic>
#include <cstdint>

namespace kvec::worker::engine {

// How far an engine has come: written by its thread, read by the heartbeat's, which thereby tells a
// long Step from a stalled one.
struct Progress {
  std::atomic<uint64_t> steps_begun{0};
  std::atomic<uint64_t> layers_done{0};
  std::atomic<uint64_t> last_step_id{0};  // finished
  std::atomic<bool> in_step{false};
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_PROGRESS_H_
