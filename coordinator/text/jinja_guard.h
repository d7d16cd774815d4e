#ifndef KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_
#define KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "jinja/runtime.h"

namespace kvec::coordinator::text {

// Ends rendering. Not a std::exception: the engine lets these through as they are, where it
// rewrites the message of any other. Caught in JinjaTemplate::Render, never beyond.
struct JinjaAbort {
  absl::Status status;
};

// Bounds what a hostile template can make the engine do: recursion while parsing and rendering, and
// the number of loop rounds and macro calls. Memory is bounded only through these; a template that
// doubles a string in every round still gets all there is.
class JinjaGuard {
 public:
  static constexpr int kMaxNesting = 64;        // of brackets in an expression, and of blocks
  static constexpr int kMaxExpression = 1'000;  // tokens: a chain of operators is a deep tree
  static constexpr int64_t kMaxRounds = 100'000;
  static constexpr size_t kMaxStackBytes = 1 << 20;  // of the 8 MiB that a thread has

  // INVALID_ARGUMENT names the line.
  static absl::Status CheckNesting(const jinja::lexer_result& source);

  // Makes every loop round and macro call of the program report to the guard of its thread.
  static void Watch(jinja::program& program);

  // While it exists, watched programs on this thread report to it.
  JinjaGuard();
  JinjaGuard(const JinjaGuard&) = delete;
  JinjaGuard& operator=(const JinjaGuard&) = delete;
  ~JinjaGuard();

  // Throws JinjaAbort with RESOURCE_EXHAUSTED.
  void CountRounds(int64_t rounds);
  static JinjaGuard& OfThisThread();

 private:
  const char* stack_begin_;
  int64_t rounds_left_ = kMaxRounds;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_JINJA_GUARD_H_
