#ifndef KVEC_TESTS_CUSIM_DEVICE_CALLS_H_
#define KVEC_TESTS_CUSIM_DEVICE_CALLS_H_

#include <driver_types.h>

#include <cstddef>
#include <cstdint>

#include "tests/cusim/call_site.h"
#include "tests/cusim/late_copies.h"
#include "tests/cusim/launch.h"
#include "tests/cusim/products.h"
#include "tests/cusim/shared_memory.h"

// What builtins.h and kernel_launch.h, compiled into the program, ask of the simulator. All but
// LaunchKernel are called by a running kernel's threads.
namespace kvec::cusim {

int LaneId();
void Barrier(CallSite at);
void SyncWarp(uint32_t mask, CallSite at);
// The value that `source` handed in.
uint64_t ShuffleBits(uint32_t mask, uint64_t value, int source, CallSite at);
// What each lane of the warp handed in; valid until the lane's next collective.
const uint64_t* AllLanes(uint64_t value, CallSite at);
uint32_t Ballot(uint32_t mask, bool predicate, CallSite at);
void* StaticSharedArray(const void* site, size_t bytes);
void* DynamicSharedArray();
// See LateCopies: those of the calling thread.
void CopyLater(const LateCopy& copy);
void CommitCopies();
bool TakeCopy(size_t prior, LateCopy& copy);
void FenceCopies();
// Whether products are not yet sure to see a copy to there, any thread's.
bool IsUnfenced(const void* begin);

// Of the thread's warpgroup: its place in it, a barrier of it, and what a thread in some place has
// begun.
int ThreadOfWarpgroup();
void SyncWarpgroup(CallSite at);
Products& ProductsOf(int thread_of_warpgroup);
bool NegatesProducts();  // Options
// As an instruction takes it, of a pointer into shared memory.
uint32_t SharedAddress(const void* pointer, CallSite at);
SharedWindow WindowAt(uint32_t address, CallSite at);

// An mbarrier in shared memory. WaitAtBarrier returns once the phase of this parity is complete.
void InitBarrier(uint64_t* barrier, unsigned count, CallSite at);
void ArriveAtBarrier(uint64_t* barrier, CallSite at);
void WaitAtBarrier(const uint64_t* barrier, uint32_t parity, CallSite at);

// Ends the kernel.
[[noreturn]] void Fault(const char* message, CallSite at);

cudaError_t LaunchKernel(const void* kernel, cudaStream_t stream, Launch launch);

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_DEVICE_CALLS_H_
