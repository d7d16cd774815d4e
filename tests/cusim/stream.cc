#include "tests/cusim/stream.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace kvec::cusim {

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

void StreamSet::Push(Stream& stream, std::function<void()> run, std::function<bool()> is_ready) {
  if (stream.capture != nullptr) {
    stream.capture->graph.works.push_back(std::move(run));
    return;
  }
  auto work = std::make_unique<Stream::Work>();
  work->run = std::move(run);
  work->is_ready = std::move(is_ready);
  TsanRelease(work.get());
  stream.works.push_back(std::move(work));
}

void StreamSet::Record(Stream& stream, Event& event) {
  const uint64_t version = ++event.recorded;
  Push(stream, [&event, version] {
    event.completed = std::max(event.completed, version);
    TsanRelease(&event);
  });
}

void StreamSet::WaitFor(Stream& stream, Event& event) {
  const uint64_t version = event.recorded;
  Push(
      stream, [&event] { TsanAcquire(&event); },
      [&event, version] { return event.completed >= version; });
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
    if (!stream.HasRunnable()) continue;
    Run(stream);
    return true;
  }
  return false;
}

void StreamSet::Run(Stream& stream) {
  std::unique_ptr<Stream::Work> work = std::move(stream.works.front());
  stream.works.pop_front();
  void* const caller = CurrentTsanFiber();
  stream.tsan_fiber.Switch();
  TsanAcquire(work.get());
  work->run();
  work.reset();  // by who used it last
  TsanRelease(&stream);
  SwitchTsanFiber(caller);
}

}  // namespace kvec::cusim
