#ifndef KVEC_WORKER_TRACE_SPAN_RECORDER_H_
#define KVEC_WORKER_TRACE_SPAN_RECORDER_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace kvec::worker::trace {

// Notes what one thread does, and when; see TraceSpan. Where the spans are is written into the
// code, so whoever wants them makes a recorder the thread's for a while:
//
//   SpanRecorder recorder;
//   {
//     const ScopedRecording recording(&recorder);
//     const ScopedSpan span("layers");   // somewhere deep down
//   }
//   Send(recorder.Take());
//
// A span costs a comparison where nobody records, and two looks at the clock where somebody does.
class SpanRecorder {
 public:
  struct Span {
    const char* name = nullptr;  // a literal
    int64_t begin_ns = 0;        // since 1970
    int64_t end_ns = 0;
    uint64_t sent_bytes = 0;  // to all peers together
    uint32_t num_rows = 0;    // of a whole Step: tokens fed
  };

  // Returns the new span's place. Spans end in the reverse order.
  size_t Begin(const char* name);
  void End(size_t place);
  // One that is over; before any that has begun later.
  void Add(const Span& span) { spans_.push_back(span); }

  // What was recorded since, by the begins.
  std::vector<Span> Take() { return std::exchange(spans_, {}); }

  Span& at(size_t place) { return spans_[place]; }

 private:
  std::vector<Span> spans_;
};

// Makes a recorder the calling thread's; null: nothing is recorded.
class ScopedRecording {
 public:
  explicit ScopedRecording(SpanRecorder* recorder);
  ~ScopedRecording();
  ScopedRecording(const ScopedRecording&) = delete;
  ScopedRecording& operator=(const ScopedRecording&) = delete;

 private:
  SpanRecorder* const before_;
};

// The time from here to its end, in the recorder that the thread has here.
class ScopedSpan {
 public:
  explicit ScopedSpan(const char* name, uint64_t sent_bytes = 0);
  ~ScopedSpan() {
    if (recorder_ != nullptr) recorder_->End(place_);
  }
  ScopedSpan(const ScopedSpan&) = delete;
  ScopedSpan& operator=(const ScopedSpan&) = delete;

  bool is_recorded() const { return recorder_ != nullptr; }

 private:
  SpanRecorder* const recorder_;
  size_t place_ = 0;
};

}  // namespace kvec::worker::trace

#endif  // KVEC_WORKER_TRACE_SPAN_RECORDER_H_
