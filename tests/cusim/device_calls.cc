#include "tests/cusim/device_calls.h"

#include "tests/cusim/block_executor.h"

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

bool TakeCopy(size_t prior, LateCopy& copy) {
  RuntimeScope scope;
  return RunningExecutor().late_copies().Take(prior, copy);
}

}  // namespace kvec::cusim
