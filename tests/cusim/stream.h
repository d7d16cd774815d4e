#ifndef KVEC_TESTS_CUSIM_STREAM_H_
#define KVEC_TESTS_CUSIM_STREAM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tests/cusim/fiber.h"
#include "tests/cusim/graph.h"
#include "tests/cusim/turn_order.h"

namespace kvec::cusim {

struct Event {
  uint64_t recorded = 0;   // times that cudaEventRecord was called
  uint64_t completed = 0;  // the last of them that its stream has reached
};

// Work in the order in which it was given.
struct Stream {
  explicit Stream(int its_device) : device(its_device) {}

  const int device;
  std::deque<std::unique_ptr<StreamWork>> works;
  std::unique_ptr<Capture> capture;  // null: it is not being captured
  // Its work runs on a stack of its own: on a host thread's, several streams' would follow one
  // another, which ThreadSanitizer takes for races.
  Fiber fiber;
  const std::function<void()>* body = nullptr;  // that runs on the fiber
};

// All streams of all devices. Work runs as late as somebody's waiting allows, or as early as it
// can, by Options::order: forward, a stream that nobody waits for stands still; reverse, all others
// come before the one that is waited for.
class StreamSet {
 public:
  explicit StreamSet(const Options& options) : turns_(options) {}

  Stream* Create(int device);
  bool Contains(const Stream* stream) const;
  void Destroy(Stream* stream);

  void Push(Stream& stream, StreamWork work);
  void Record(Stream& stream, Event& event);
  void WaitFor(Stream& stream, Event& event);

  // Runs one piece of work, of `wanted` (may be null) or of another stream. False: all that is
  // there waits for what another thread or process has still to do.
  bool RunOne(const Stream* wanted);
  // Null when nothing was pushed to the device's streams that has not run.
  const Stream* FindBusy(int device) const;
  // The one that the calling thread captures; null: none.
  Stream* FindCaptured() const;
  // The caller has waited for all of them.
  void Acquire(int device);

 private:
  static bool HasRunnable(Stream& stream);
  static void Run(Stream& stream);
  static void RunOnFiber(Stream& stream, const std::function<void()>& body);

  TurnOrder turns_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_STREAM_H_
