#ifndef KVEC_TESTS_CUSIM_FIBER_H_
#define KVEC_TESTS_CUSIM_FIBER_H_

#include <cstddef>

#include "tests/cusim/sanitizer.h"

namespace kvec::cusim {

// A stack of its own on which a function runs until it yields, and goes on later: a CUDA thread; or
// what a stream does at a time.
// Switching costs some 10 ns; ucontext's system calls would cost 50 times that. x86-64 only.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next Resume calls `entry`, which must not return: it ends with Finish. A fiber that was
  // left in the middle may be started anew.
  void Start(void (*entry)());

  // Runs the fiber until it yields or finishes.
  void Resume();

  // On the fiber itself. Entered comes first.
  void Entered();
  void Yield();
  [[noreturn]] void Finish();

 private:
  char* const stack_;
  void* stack_pointer_ = nullptr;
  void* resumer_stack_pointer_ = nullptr;
  TsanFiber tsan_fiber_;
  void* resumer_tsan_fiber_ = nullptr;
  // AddressSanitizer's: its notes on both stacks, and where the resumer's lies.
  void* asan_notes_ = nullptr;
  void* resumer_asan_notes_ = nullptr;
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_FIBER_H_
