#include "tests/cusim/device_calls.h"

#include "tests/cusim/block_executor.h"
#include "tests/cusim/runtime.h"

namespace kvec::cusim {

int LaneId() { return RunningExecutor().lane(); }

void Barrier(CallSite at) { RunningExecutor().Barrier(at); }

void SyncWarp(uint32_t mask, CallSite at) {
  RunningExecutor().Exchange(mask, 0, -1, WarpOp::kSync, at);
}

uint64_t ShuffleBits(uint32_t mask, uint64_t value, int source, CallSite at) {
  return RunningExecutor().Exchange(mask, value, source, WarpOp::kShuffle, at)[source];
}

const uint64_t* AllLanes(uint64_t value, CallSite at) {
  return RunningExecutor().Exchange(~0u, value, -1, WarpOp::kShuffle, at);
}

uint32_t Ballot(uint32_t mask, bool predicate, CallSite at) {
  const uint64_t* values =
      RunningExecutor().Exchange(mask, predicate ? 1 : 0, -1, WarpOp::kBallot, at);
  uint32_t lanes = 0;
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    if ((mask >> lane & 1) != 0 && values[lane] != 0) lanes |= 1u << lane;
  }
  return lanes;
}

void* StaticSharedArray(const void* site, size_t bytes) {
  return RunningExecutor().StaticSharedArray(site, bytes);
}

void* DynamicSharedArray() { return RunningExecutor().DynamicSharedArray(); }

void CopyLater(const LateCopy& copy) {
  RuntimeScope scope;
  RunningExecutor().late_copies().Add(copy);
}

void CommitCopies() {
  RuntimeScope scope;
  RunningExecutor().late_copies().Commit();
}

bool TakeCopy(size_t prior, LateCopy& copy) { return RunningExecutor().TakeCopy(prior, copy); }

void FenceCopies() { RunningExecutor().FenceCopies(); }

bool IsUnfenced(const void* begin) { return RunningExecutor().IsUnfenced(begin); }

int ThreadOfWarpgroup() { return RunningExecutor().thread() % kWarpgroupThreads; }

void SyncWarpgroup(CallSite at) { RunningExecutor().SyncWarpgroup(at); }

Products& ProductsOf(int thread_of_warpgroup) {
  return RunningExecutor().ProductsOf(thread_of_warpgroup);
}

bool NegatesProducts() { return Runtime::Get().options().negates_products; }

uint32_t SharedAddress(const void* pointer, CallSite at) {
  RuntimeScope scope;
  const SharedWindow window = RunningExecutor().shared_memory().WindowOf(pointer);
  if (window.bytes == 0) RunningExecutor().Fault("not a pointer into shared memory", at);
  return window.address +
         static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - window.begin);
}

SharedWindow WindowAt(uint32_t address, CallSite at) {
  RuntimeScope scope;
  const SharedWindow window = RunningExecutor().shared_memory().WindowAt(address);
  if (window.bytes == 0) RunningExecutor().Fault("not an address in shared memory", at);
  return window;
}

void InitBarrier(uint64_t* barrier, unsigned count, CallSite at) {
  RunningExecutor().InitPhaseBarrier(barrier, count, at);
}

void ArriveAtBarrier(uint64_t* barrier, CallSite at) {
  RunningExecutor().ArriveAtPhaseBarrier(barrier, at);
}

void WaitAtBarrier(const uint64_t* barrier, uint32_t parity, CallSite at) {
  RunningExecutor().WaitAtPhaseBarrier(barrier, parity, at);
}

void Fault(const char* message, CallSite at) {
  RuntimeScope::Begin();  // BlockExecutor::Fault ends it
  RunningExecutor().Fault(message, at);
}

}  // namespace kvec::cusim
