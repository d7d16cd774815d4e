#include "tests/cusim/stream.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "tests/cusim/sanitizer.h"

namespace kvec::cusim {
namespace {

Stream* running_stream = nullptr;  // host threads take turns

}  // namespace

Stream* StreamSet::Create(int device) {
  streams_.push_back(std::make_unique<Stream>(device));
  return streams_.back().get();
}

bool StreamSet::Contains(const Stream* stream) const {
  return std::any_of(streams_.begin(), streams_.end(),
                     [stream](const auto& own) { return own.get() == stream; });
}

void StreamSet::Destroy(Stream* stream) {
  streams_.erase(std::find_if(streams_.begin(), streams_.end(),
                              [stream](const auto& own) { return own.get() == stream; }));
}

void StreamSet::Push(Stream& stream, StreamWork work) {
  if (stream.capture != nullptr) {
    stream.capture->graph.works.push_back(std::move(work));
    return;
  }
  auto pushed = std::make_unique<StreamWork>(std::move(work));
  TsanRelease(pushed.get());
  stream.works.push_back(std::move(pushed));
}

void StreamSet::Record(Stream& stream, Event& event) {
  const uint64_t version = ++event.recorded;
  Push(stream, {[&event, version] {
                  event.completed = std::max(event.completed, version);
                  TsanRelease(&event);
                },
                nullptr});
}

void StreamSet::WaitFor(Stream& stream, Event& event) {
  const uint64_t version = event.recorded;
  Push(stream, {[&event] { TsanAcquire(&event); },
                [&event, version] { return event.completed >= version; }});
}

const Stream* StreamSet::FindBusy(int device) const {
  const auto busy = std::find_if(streams_.begin(), streams_.end(), [device](const auto& stream) {
    return stream->device == device && !stream->works.empty();
  });
  return busy == streams_.end() ? nullptr : busy->get();
}

Stream* StreamSet::FindCaptured() const {
  const auto captured = std::find_if(streams_.begin(), streams_.end(), [](const auto& stream) {
    return stream->capture != nullptr && stream->capture->thread == std::this_thread::get_id();
  });
  return captured == streams_.end() ? nullptr : captured->get();
}

void StreamSet::Acquire(int device) {
  for (const auto& stream : streams_) {
    if (stream->device == device) TsanAcquire(stream.get());
  }
}

bool StreamSet::RunOne(const Stream* wanted) {
  std::vector<int> order = turns_.Permutation(streams_.size());
  const auto is_wanted = [&](int index) {
    return streams_[static_cast<size_t>(index)].get() == wanted;
  };
  if (turns_.order() == Order::kForward) {
    std::stable_partition(order.begin(), order.end(), is_wanted);
  } else if (turns_.order() == Order::kReverse) {
    std::stable_partition(order.begin(), order.end(), std::not_fn(is_wanted));
  }
  for (int index : order) {
    Stream& stream = *streams_[static_cast<size_t>(index)];
    if (!HasRunnable(stream)) continue;
    Run(stream);
    return true;
  }
  return false;
}

// What makes work ready is seen by the stream, not by whoever looks whether it is.
bool StreamSet::HasRunnable(Stream& stream) {
  if (stream.works.empty()) return false;
  StreamWork& work = *stream.works.front();
  if (work.is_ready == nullptr) return true;
  bool is_ready = false;
  RunOnFiber(stream, [&] {
    TsanAcquire(&work);
    is_ready = work.is_ready();
  });
  return is_ready;
}

void StreamSet::Run(Stream& stream) {
  std::unique_ptr<StreamWork> work = std::move(stream.works.front());
  stream.works.pop_front();
  RunOnFiber(stream, [&] {
    TsanAcquire(work.get());
    work->run();
    work.reset();  // by who used it last
    TsanRelease(&stream);
  });
}

void StreamSet::RunOnFiber(Stream& stream, const std::function<void()>& body) {
  stream.body = &body;
  running_stream = &stream;
  stream.fiber.Start([] {
    Stream& running = *running_stream;
    running.fiber.Entered();
    (*running.body)();
    running.fiber.Finish();
  });
  stream.fiber.Resume();
}

}  // namespace kvec::cusim
