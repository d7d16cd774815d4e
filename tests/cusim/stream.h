#ifndef KVEC_TESTS_CUSIM_STREAM_H_
#define KVEC_TESTS_CUSIM_STREAM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tests/cusim/sanitizer.h"
#include "tests/cusim/turn_order.h"

namespace kvec::cusim {

struct Event {
  uint64_t recorded = 0;   // times that cudaEventRecord was called
  uint64_t completed = 0;  // the last of them that its stream has reached
};

// Work in the order in which it was given.
struct Stream {
  struct Work {
    std::function<void()> run;
    // The work behind waits until this event's `version` is complete; null: no wait.
    const Event* event = nullptr;
    uint64_t version = 0;
  };

  std::deque<std::unique_ptr<Work>> works;
  TsanFiber tsan_fiber;

  bool HasRunnable() const {
    return !works.empty() && (works.front()->event == nullptr ||
                              works.front()->event->completed >= works.front()->version);
  }
};

// All streams of a device. Work runs as late as somebody's waiting allows, or as early as it can,
// by Options::order: forward, a stream that nobody waits for stands still; reverse, all others come
// before the one that is waited for.
class StreamSet {
 public:
  explicit StreamSet(const Options& options) : turns_(options) {}

  Stream* Create();
  bool Contains(const Stream* stream) const;
  void Destroy(Stream* stream);

  void Push(Stream& stream, std::function<void()> run);
  void Record(Stream& stream, Event& event);
  void WaitFor(Stream& stream, Event& event);

  // Runs what was pushed to the stream, and what that waits for.
  void Finish(Stream& stream);
  void FinishAll();
  void FinishEvent(Event& event);

 private:
  // Runs one piece of work, of `wanted` (may be null) or of another stream.
  void RunOne(const Stream* wanted);
  static void Run(Stream& stream);

  TurnOrder turns_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_STREAM_H_
