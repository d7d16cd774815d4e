#include "tests/cusim/sanitizer.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#ifdef KVEC_CUSIM_TSAN
// ThreadSanitizer's interface (sanitizer/tsan_interface.h), which GCC 12 does not ship.
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* tag);
void __tsan_release(void* tag);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace kvec::cusim {

#ifdef KVEC_CUSIM_TSAN

TsanFiber::TsanFiber() : handle_(__tsan_create_fiber(0)) {}
TsanFiber::~TsanFiber() { __tsan_destroy_fiber(handle_); }
void TsanFiber::Switch() { SwitchTsanFiber(handle_); }

void* CurrentTsanFiber() { return __tsan_get_current_fiber(); }

void SwitchTsanFiber(void* handle) {
  constexpr unsigned kNoSynchronisation = 1;
  __tsan_switch_to_fiber(handle, kNoSynchronisation);
}

void TsanRelease(void* tag) { __tsan_release(tag); }
void TsanAcquire(void* tag) { __tsan_acquire(tag); }

void RuntimeScope::Begin() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

void RuntimeScope::End() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#else

TsanFiber::TsanFiber() : handle_(nullptr) {}
TsanFiber::~TsanFiber() = default;
void TsanFiber::Switch() { SwitchTsanFiber(handle_); }
void* CurrentTsanFiber() { return nullptr; }
void SwitchTsanFiber(void*) {}
void TsanRelease(void*) {}
void TsanAcquire(void*) {}
void RuntimeScope::Begin() {}
void RuntimeScope::End() {}

#endif

#ifdef __SANITIZE_ADDRESS__
void PoisonMemory(const void* begin, size_t bytes) { __asan_poison_memory_region(begin, bytes); }
void UnpoisonMemory(const void* begin, size_t bytes) {
  __asan_unpoison_memory_region(begin, bytes);
}
#else
void PoisonMemory(const void*, size_t) {}
void UnpoisonMemory(const void*, size_t) {}
#endif

}  // namespace kvec::cusim
