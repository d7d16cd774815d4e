#ifndef KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_
#define KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "coordinator/text/allocation_limit.h"
#include "jinja/runtime.h"

namespace kvec::coordinator::text {

// Ends rendering. Not a std::exception: the engine lets these through as they are, where it
// rewrites the message of any other. Caught in JinjaTemplate::Render, never beyond.
struct JinjaAbort {
  absl::Status status;
};

// Bounds what a hostile template can make the engine do: recursion while parsing and rendering, the
// number of loop rounds and macro calls, and the memory that it holds and allocates in all.
// deploy/local/jinja_bounds.patch has the engine's part in this.
class JinjaGuard {
 public:
  static constexpr int kMaxNesting = 64;        // of brackets in an expression, and of blocks
  static constexpr int kMaxExpression = 1'000;  // tokens: a chain of operators is a deep tree
  static constexpr int64_t kMaxRounds = 100'000;
  static constexpr size_t kMaxStackBytes = 1 << 20;  // of the 8 MiB that a thread has
  // Values inside those that are assigned to members (`set ns.x = …`), in all.
  static constexpr int64_t kMaxAssignedValues = 10'000'000;
  // Held at a time, and allocated in all (at most about a second's work). Real templates copy a
  // conversation a few dozen times.
  static constexpr int64_t kMaxLiveBytes = 64 << 20;
  static constexpr int64_t kMaxLiveBytesPerInputByte = 16;
  static constexpr int64_t kMaxTotalBytes = int64_t{2} << 30;
  static constexpr int64_t kMaxTotalBytesPerInputByte = 256;

  // INVALID_ARGUMENT names the line.
  static absl::Status CheckNesting(const jinja::lexer_result& source);

  // Makes every loop round and macro call of the program report to the guard of its thread.
  static void Watch(jinja::program& program);

  // While it exists, watched programs on this thread report to it. `input_bytes`: of the variables.
  // At its end `out_of_memory` tells whether the engine was denied memory, for which it may have
  // given another reason.
  JinjaGuard(size_t input_bytes, bool* out_of_memory);
  JinjaGuard(const JinjaGuard&) = delete;
  JinjaGuard& operator=(const JinjaGuard&) = delete;
  ~JinjaGuard();

  // Throws JinjaAbort with RESOURCE_EXHAUSTED.
  void CountRounds(int64_t rounds);
  static JinjaGuard& OfThisThread();

 private:
  const char* stack_begin_;
  int64_t rounds_left_ = kMaxRounds;
  bool* const out_of_memory_;
  AllocationLimit allocations_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_
