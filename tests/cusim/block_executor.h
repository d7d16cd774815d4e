#ifndef KVEC_TESTS_CUSIM_BLOCK_EXECUTOR_H_
#define KVEC_TESTS_CUSIM_BLOCK_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/cusim/call_site.h"
#include "tests/cusim/fiber.h"
#include "tests/cusim/late_copies.h"
#include "tests/cusim/launch.h"
#include "tests/cusim/products.h"
#include "tests/cusim/shared_memory.h"
#include "tests/cusim/turn_order.h"
#include "tests/cusim/warp.h"

namespace kvec::cusim {

// Runs blocks of kernels, one at a time, a fiber per CUDA thread. A warp runs as far as it can
// before the next one gets a turn, so that warps drift apart as far as the barriers let them.
class BlockExecutor {
 public:
  static constexpr int kMaxThreads = 1024;

  explicit BlockExecutor(const Options& options) : turns_(options) {}

  // Runs all blocks of a kernel. Empty, or what went wrong; the kernel is then abandoned.
  std::string Run(const Launch& launch);

  int64_t num_blocks_run() const { return num_blocks_run_; }

  // Called by the running kernel's threads.
  int thread() const { return current_; }
  int lane() const { return current_ % kWarpLanes; }
  void Barrier(CallSite at);
  // Returns the value that each lane has handed in, valid until the lane's next collective.
  // `source` is the lane that will be read, or -1.
  const uint64_t* Exchange(uint32_t mask, uint64_t value, int source, WarpOp op, CallSite at);
  // A barrier of the thread's warpgroup.
  void SyncWarpgroup(CallSite at);
  void InitPhaseBarrier(uint64_t* barrier, unsigned count, CallSite at);
  void ArriveAtPhaseBarrier(uint64_t* barrier, CallSite at);
  void WaitAtPhaseBarrier(const uint64_t* barrier, uint32_t parity, CallSite at);
  void* StaticSharedArray(const void* site, size_t bytes);
  void* DynamicSharedArray();
  const SharedMemory& shared_memory() const { return shared_memory_; }
  LateCopies& late_copies() { return current().late_copies; }
  bool TakeCopy(size_t prior, LateCopy& copy);
  void FenceCopies();
  // Whether any thread has copied to there and not made it known to products.
  bool IsUnfenced(const void* begin) const;
  // What a thread of the running one's warpgroup has begun.
  Products& ProductsOf(int thread_of_warpgroup) {
    return threads_[current_ / kWarpgroupThreads * kWarpgroupThreads + thread_of_warpgroup]
        .products;
  }
  [[noreturn]] void Fault(const std::string& message, CallSite at);

 private:
  enum class State : uint8_t {
    kReady,
    kAtBarrier,
    kInExchange,
    kAtWarpgroupBarrier,
    kAtPhaseBarrier,
    kExited
  };
  struct Thread {
    std::unique_ptr<Fiber> fiber;
    uint3 index;  // its threadIdx
    State state = State::kReady;
    CallSite at;                              // of what it waits for
    WarpExchange* exchange = nullptr;         // that it may read
    const uint64_t* phase_barrier = nullptr;  // that it waits at
    LateCopies late_copies;
    Products products;
  };
  // Threads that have come to a barrier of their warpgroup.
  struct Warpgroup {
    int num_waiting = 0;
    CallSite at;
    std::unique_ptr<char> tag = std::make_unique<char>();  // ThreadSanitizer's
  };

  static void ThreadMain();
  std::string RunBlock(const Launch& launch, uint3 block);
  void StartThreads(int num_threads);
  void RunThreads(std::vector<int> warp_order);
  int PickThread(const std::vector<int>& warp_order);
  void ThreadExits();
  void OpenBarrier();
  void CheckExchange(const WarpExchange& exchange, uint32_t mask, int source, WarpOp op,
                     CallSite at);
  void Wait(State state, CallSite at);
  void Wake(int thread);
  std::string Deadlock() const;

  Thread& current() { return threads_[current_]; }
  Warp& warp() { return warps_[current_ / kWarpLanes]; }

  TurnOrder turns_;
  SharedMemory shared_memory_;
  WarpExchangePool exchanges_;
  int64_t num_blocks_run_ = 0;

  // Of the kernel that runs.
  const Launch* launch_ = nullptr;

  // Of the block that runs.
  std::vector<Thread> fiber_sets_;  // see StartThreads
  Thread* threads_ = nullptr;
  int num_threads_ = 0;
  int num_alive_ = 0;
  int num_at_barrier_ = 0;
  int num_unfenced_ = 0;  // threads with copies that products may not see
  CallSite barrier_at_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  int current_ = 0;
  std::string fault_;

  // ThreadSanitizer's tags: the kernel's begin and end. Each block's barrier has one of its own.
  char begin_tag_ = 0;
  char end_tag_ = 0;
  std::vector<std::unique_ptr<char>> barrier_tags_;
  std::vector<Warpgroup> past_warpgroups_;  // no two blocks' tags may be the same
};

// The executor whose kernel runs. Valid on its threads only.
BlockExecutor& RunningExecutor();

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_BLOCK_EXECUTOR_H_
