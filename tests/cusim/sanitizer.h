#ifndef KVEC_TESTS_CUSIM_SANITIZER_H_
#define KVEC_TESTS_CUSIM_SANITIZER_H_

#include <cstddef>

// What the simulator tells the sanitizers, which cannot see its threads by themselves. To
// ThreadSanitizer every CUDA thread and every stream is a "fiber" that is ordered with another one
// only by Release and Acquire of the same tag, never by the order in which the simulator happens to
// run them. The simulator itself is compiled without ThreadSanitizer (its CMakeLists.txt): its own
// accesses are no part of the program. KVEC_CUSIM_TSAN says that the program is compiled with it.
namespace kvec::cusim {

#ifdef KVEC_CUSIM_TSAN
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

// A thread of ThreadSanitizer's. It is ordered after what its maker has seen.
class TsanFiber {
 public:
  TsanFiber();
  ~TsanFiber();
  TsanFiber(const TsanFiber&) = delete;
  TsanFiber& operator=(const TsanFiber&) = delete;

  // Everything is accounted to this fiber until another Switch. Orders nothing.
  void Switch();

 private:
  void* const handle_;
};

// The fiber that runs now, and back to it.
void* CurrentTsanFiber();
void SwitchTsanFiber(void* handle);

void TsanRelease(void* tag);
void TsanAcquire(void* tag);

// While one exists, what the current fiber does inside library functions (memset, malloc), which
// ThreadSanitizer does see, is not the program's either.
class RuntimeScope {
 public:
  RuntimeScope() { Begin(); }
  ~RuntimeScope() { End(); }
  RuntimeScope(const RuntimeScope&) = delete;
  RuntimeScope& operator=(const RuntimeScope&) = delete;

  static void Begin();
  static void End();  // on its own only on a fiber that will never go on
};

// AddressSanitizer: no access to these bytes, and access again.
void PoisonMemory(const void* begin, size_t bytes);
void UnpoisonMemory(const void* begin, size_t bytes);

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_SANITIZER_H_
