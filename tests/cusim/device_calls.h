#ifndef KVEC_TESTS_CUSIM_DEVICE_CALLS_H_
#define KVEC_TESTS_CUSIM_DEVICE_CALLS_H_

#include <driver_types.h>

#include <cstddef>
#include <cstdint>

#include "tests/cusim/call_site.h"
#include "tests/cusim/late_copies.h"
#include "tests/cusim/launch.h"

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

cudaError_t LaunchKernel(const void* kernel, cudaStream_t stream, Launch launch);

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_DEVICE_CALLS_H_
