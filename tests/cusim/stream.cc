#include "tests/cusim/stream.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace kvec::cusim {

Stream* StreamSet::Create() {
  streams_.push_back(std::make_unique<Stream>());
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

void StreamSet::Push(Stream& stream, std::function<void()> run) {
  auto work = std::make_unique<Stream::Work>();
  work->run = std::move(run);
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
  Push(stream, [&event] { TsanAcquire(&event); });
  stream.works.back()->event = &event;
  stream.works.back()->version = event.recorded;
}

void StreamSet::Finish(Stream& stream) {
  while (!stream.works.empty()) RunOne(&stream);
  TsanAcquire(&stream);
}

void StreamSet::FinishAll() {
  for (const auto& stream : streams_) Finish(*stream);
}

void StreamSet::FinishEvent(Event& event) {
  while (event.completed < event.recorded) RunOne(nullptr);
  TsanAcquire(&event);
}

void StreamSet::RunOne(const Stream* wanted) {
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
    if (stream.HasRunnable()) return Run(stream);
  }
  std::abort();  // cannot be: an event is recorded before it is waited for
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
