#include "worker/trace/span_recorder.h"

#include "absl/time/clock.h"

namespace kvec::worker::trace {
namespace {

thread_local SpanRecorder* of_this_thread = nullptr;

}  // namespace

size_t SpanRecorder::Begin(const char* name) {
  spans_.push_back({.name = name, .begin_ns = absl::GetCurrentTimeNanos()});
  return spans_.size() - 1;
}

void SpanRecorder::End(size_t place) { spans_[place].end_ns = absl::GetCurrentTimeNanos(); }

ScopedRecording::ScopedRecording(SpanRecorder* recorder)
    : before_(std::exchange(of_this_thread, recorder)) {}

ScopedRecording::~ScopedRecording() { of_this_thread = before_; }

ScopedSpan::ScopedSpan(const char* name, uint64_t sent_bytes) : recorder_(of_this_thread) {
  if (recorder_ == nullptr) return;
  place_ = recorder_->Begin(name);
  recorder_->at(place_).sent_bytes = sent_bytes;
}

}  // namespace kvec::worker::trace
