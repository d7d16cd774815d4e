#include "tests/cusim/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a callee must keep, leaves its stack pointer in *save, and goes on with
// the stack `to`.
extern "C" void kvec_cusim_switch_stack(void** save, void* to);
asm(R"(.text
.globl kvec_cusim_switch_stack
.type kvec_cusim_switch_stack,@function
kvec_cusim_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace kvec::cusim {
namespace {

constexpr size_t kStackBytes = size_t{64} << 10;
constexpr size_t kStackGuardBytes = 4096;
constexpr int kSavedRegisters = 6;

#ifdef __SANITIZE_ADDRESS__
void StartSwitch(void** notes, const void* stack, size_t bytes) {
  __sanitizer_start_switch_fiber(notes, stack, bytes);
}
void FinishSwitch(void* notes, const void** stack, size_t* bytes) {
  __sanitizer_finish_switch_fiber(notes, stack, bytes);
}
#else
void StartSwitch(void**, const void*, size_t) {}
void FinishSwitch(void*, const void**, size_t*) {}
#endif

char* MapStack() {
  void* mapping = mmap(nullptr, kStackGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) std::abort();
  mprotect(mapping, kStackGuardBytes, PROT_NONE);
  return static_cast<char*>(mapping) + kStackGuardBytes;
}

}  // namespace

Fiber::Fiber() : stack_(MapStack()) {}

Fiber::~Fiber() {
  UnpoisonMemory(stack_, kStackBytes);
  munmap(stack_ - kStackGuardBytes, kStackGuardBytes + kStackBytes);
}

void Fiber::Start(void (*entry)()) {
  UnpoisonMemory(stack_, kStackBytes);  // frames that were left in the middle
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;  // entry's return address; also aligns its frame
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
  asan_notes_ = nullptr;
}

void Fiber::Resume() {
  resumer_tsan_fiber_ = CurrentTsanFiber();
  StartSwitch(&resumer_asan_notes_, stack_, kStackBytes);
  tsan_fiber_.Switch();
  kvec_cusim_switch_stack(&resumer_stack_pointer_, stack_pointer_);
  FinishSwitch(resumer_asan_notes_, nullptr, nullptr);
}

void Fiber::Entered() { FinishSwitch(nullptr, &resumer_stack_, &resumer_stack_bytes_); }

void Fiber::Yield() {
  StartSwitch(&asan_notes_, resumer_stack_, resumer_stack_bytes_);
  SwitchTsanFiber(resumer_tsan_fiber_);
  kvec_cusim_switch_stack(&stack_pointer_, resumer_stack_pointer_);
  FinishSwitch(asan_notes_, &resumer_stack_, &resumer_stack_bytes_);
}

void Fiber::Finish() {
  StartSwitch(nullptr, resumer_stack_, resumer_stack_bytes_);  // null: its notes are thrown away
  SwitchTsanFiber(resumer_tsan_fiber_);
  kvec_cusim_switch_stack(&stack_pointer_, resumer_stack_pointer_);
  std::abort();
}

}  // namespace kvec::cusim
