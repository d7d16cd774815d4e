#include "tests/cusim/block_executor.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cusim/phase_barrier.h"

// The built-in variables of CUDA C++, of the thread that runs.
uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace kvec::cusim {
namespace {

BlockExecutor* running_executor = nullptr;

// ThreadSanitizer takes a fiber's second block for ordered after its first: blocks rotate through
// this many sets of fibers, and as many neighbours are unordered.
constexpr int kFiberSets = kThreadSanitizer ? 4 : 1;

std::string Describe(CallSite at) {
  const std::string_view file = at.file;
  return absl::StrCat(std::string(file.substr(file.rfind('/') + 1)), ":", at.line);
}

bool IsSamePlace(CallSite a, CallSite b) {
  if (a.line != b.line) return false;
  return a.file == b.file || std::string_view(a.file) == b.file;
}

}  // namespace

BlockExecutor& RunningExecutor() { return *running_executor; }

std::string BlockExecutor::Run(const Launch& launch) {
  RuntimeScope scope;
  launch_ = &launch;
  running_executor = this;
  TsanRelease(&begin_tag_);
  const size_t num_blocks = size_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::string fault;
  for (int index : turns_.Permutation(num_blocks)) {
    const unsigned block = static_cast<unsigned>(index);
    fault = RunBlock(launch, {block % launch.grid.x, block / launch.grid.x % launch.grid.y,
                              block / launch.grid.x / launch.grid.y});
    if (!fault.empty()) break;
  }
  TsanAcquire(&end_tag_);
  shared_memory_.EndKernel();
  exchanges_.ReturnAll();
  barrier_tags_.clear();
  past_warpgroups_.clear();
  running_executor = nullptr;
  return fault.empty() ? fault : absl::StrCat(fault, " in ", launch.name);
}

std::string BlockExecutor::RunBlock(const Launch& launch, uint3 block) {
  blockIdx = block;
  blockDim = launch.block;
  gridDim = launch.grid;
  fault_.clear();
  if (!kThreadSanitizer) exchanges_.ReturnAll();
  barrier_tags_.push_back(std::make_unique<char>());
  StartThreads(static_cast<int>(launch.block.x * launch.block.y * launch.block.z));
  RunThreads(turns_.Permutation(warps_.size()));
  ++num_blocks_run_;
  const std::string overrun = shared_memory_.EndBlock();
  return fault_.empty() ? overrun : fault_;
}

void BlockExecutor::StartThreads(int num_threads) {
  fiber_sets_.resize(static_cast<size_t>(kFiberSets) * kMaxThreads);
  threads_ = &fiber_sets_[static_cast<size_t>(num_blocks_run_ % kFiberSets) * kMaxThreads];
  num_threads_ = num_threads;
  num_alive_ = num_threads;
  num_at_barrier_ = 0;
  num_unfenced_ = 0;
  warps_.assign(static_cast<size_t>(num_threads + kWarpLanes - 1) / kWarpLanes, Warp());
  for (int i = 0; i < num_threads; ++i) {
    Thread& thread = threads_[i];
    if (thread.fiber == nullptr) thread.fiber = std::make_unique<Fiber>();
    thread.fiber->Start(&ThreadMain);
    const unsigned index = static_cast<unsigned>(i);
    thread.index = {index % blockDim.x, index / blockDim.x % blockDim.y,
                    index / blockDim.x / blockDim.y};
    thread.state = State::kReady;
    thread.exchange = nullptr;
    thread.late_copies.Clear();
    thread.products = Products();
    warps_[static_cast<size_t>(i / kWarpLanes)].lanes |= 1u << (i % kWarpLanes);
  }
  for (Warp& warp : warps_) warp.ready = warp.lanes;
  if (kThreadSanitizer)
    std::move(warpgroups_.begin(), warpgroups_.end(), std::back_inserter(past_warpgroups_));
  warpgroups_.clear();
  warpgroups_.resize(static_cast<size_t>(num_threads / kWarpgroupThreads));
}

void BlockExecutor::RunThreads(std::vector<int> warp_order) {
  while (num_alive_ > 0 && fault_.empty()) {
    turns_.Disturb(warp_order);
    current_ = PickThread(warp_order);
    if (current_ < 0) {
      fault_ = Deadlock();
      return;
    }
    threadIdx = current().index;
    current().fiber->Resume();
  }
}

int BlockExecutor::PickThread(const std::vector<int>& warp_order) {
  for (int index : warp_order) {
    Warp& warp = warps_[static_cast<size_t>(index)];
    if (warp.ready == 0) continue;
    const int lane = turns_.PickLane(warp.ready);
    warp.ready &= ~(1u << lane);
    return index * kWarpLanes + lane;
  }
  return -1;
}

void BlockExecutor::ThreadMain() {
  BlockExecutor& executor = RunningExecutor();
  executor.current().fiber->Entered();
  TsanAcquire(&executor.begin_tag_);
  executor.launch_->body();
  {
    RuntimeScope scope;
    executor.ThreadExits();
  }
  executor.current().fiber->Finish();
}

void BlockExecutor::ThreadExits() {
  TsanRelease(&end_tag_);
  current().state = State::kExited;
  --num_alive_;
  warp().exited |= 1u << lane();
  if (num_at_barrier_ > 0)
    Fault("a thread exits while others wait at __syncthreads()", barrier_at_);
  const size_t group = static_cast<size_t>(current_ / kWarpgroupThreads);
  if (group < warpgroups_.size() && warpgroups_[group].num_waiting > 0) {
    Fault("a thread exits while others wait at a barrier of their warpgroup",
          warpgroups_[group].at);
  }
  for (const WarpExchange* open : warp().open) {
    if (open != nullptr && (open->mask >> lane() & 1) != 0) {
      Fault("a lane exits while others of its mask wait for it in a warp collective", open->at);
    }
  }
}

void BlockExecutor::Barrier(CallSite at) {
  RuntimeScope scope;
  if (num_at_barrier_ == 0) {
    barrier_at_ = at;
    if (num_alive_ != num_threads_) Fault("__syncthreads() after threads of the block exited", at);
  } else if (!IsSamePlace(barrier_at_, at)) {
    Fault(absl::StrCat("divergent __syncthreads(): others wait at ", Describe(barrier_at_),
                       ", this thread"),
          at);
  }
  char* const tag = barrier_tags_.back().get();
  TsanRelease(tag);
  ++num_at_barrier_;
  if (num_at_barrier_ == num_threads_) OpenBarrier();
  Wait(State::kAtBarrier, at);
  TsanAcquire(tag);
}

// The last to come waits, too: its warp's other lanes get their turn.
void BlockExecutor::OpenBarrier() {
  num_at_barrier_ = 0;
  current().state = State::kAtBarrier;
  for (int i = 0; i < num_threads_; ++i) Wake(i);
}

void BlockExecutor::CheckExchange(const WarpExchange& exchange, uint32_t mask, int source,
                                  WarpOp op, CallSite at) {
  if (exchange.mask != mask || exchange.op != op || !IsSamePlace(exchange.at, at)) {
    Fault(absl::StrCat("divergent warp collective: others are at ", Describe(exchange.at),
                       ", this lane"),
          at);
  }
  if (source >= 0 && (mask >> source & 1) == 0) {
    Fault(absl::StrCat("a shuffle reads lane ", source, ", which is not in its mask"), at);
  }
}

const uint64_t* BlockExecutor::Exchange(uint32_t mask, uint64_t value, int source, WarpOp op,
                                        CallSite at) {
  RuntimeScope scope;
  Thread& thread = current();
  if (thread.exchange != nullptr && --thread.exchange->num_readers == 0) {
    exchanges_.Return(thread.exchange);
  }
  thread.exchange = nullptr;
  mask &= warp().lanes;  // lanes beyond the block's end do not exist
  if ((mask >> lane() & 1) == 0) Fault("a warp collective's mask leaves out its caller", at);
  if ((mask & warp().exited) != 0) Fault("a warp collective's mask names an exited lane", at);
  WarpExchange*& open = warp().open[static_cast<size_t>(__builtin_ctz(mask))];
  if (open == nullptr) {
    open = exchanges_.Take();
    open->mask = mask;
    open->arrived = 0;
    open->op = op;
    open->at = at;
  }
  CheckExchange(*open, mask, source, op, at);
  WarpExchange* const exchange = open;
  exchange->values[static_cast<size_t>(lane())] = value;
  exchange->arrived |= 1u << lane();
  TsanRelease(exchange);
  if (exchange->arrived == mask) {
    open = nullptr;
    exchange->num_readers = __builtin_popcount(mask);
    const int first = current_ / kWarpLanes * kWarpLanes;
    for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
      const int index = first + __builtin_ctz(lanes);
      threads_[index].exchange = exchange;
      Wake(index);
    }
  }
  Wait(State::kInExchange, at);
  TsanAcquire(exchange);
  return exchange->values.data();
}

void BlockExecutor::SyncWarpgroup(CallSite at) {
  RuntimeScope scope;
  const size_t index = static_cast<size_t>(current_ / kWarpgroupThreads);
  if (index >= warpgroups_.size()) Fault("a warpgroup of less than four warps", at);
  Warpgroup& group = warpgroups_[index];
  if (group.num_waiting == 0) group.at = at;
  if (!IsSamePlace(group.at, at)) {
    Fault(absl::StrCat("divergent warpgroup: others wait at ", Describe(group.at), ", this thread"),
          at);
  }
  TsanRelease(group.tag.get());
  if (++group.num_waiting == kWarpgroupThreads) {
    group.num_waiting = 0;
    const int first = static_cast<int>(index) * kWarpgroupThreads;
    for (int i = first; i < first + kWarpgroupThreads; ++i) Wake(i);
  }
  Wait(State::kAtWarpgroupBarrier, at);
  TsanAcquire(group.tag.get());
}

void BlockExecutor::InitPhaseBarrier(uint64_t* barrier, unsigned count, CallSite at) {
  RuntimeScope scope;
  if (count == 0 || count > kMaxThreads) Fault("an mbarrier of no or too many threads", at);
  PhaseBarrier::WithCount(count).Store(barrier);
}

void BlockExecutor::ArriveAtPhaseBarrier(uint64_t* barrier, CallSite at) {
  RuntimeScope scope;
  PhaseBarrier state = PhaseBarrier::Load(barrier);
  if (!state.is_initialized()) Fault("an mbarrier that was not initialised", at);
  TsanRelease(barrier);
  if (state.Arrive()) {
    for (int i = 0; i < num_threads_; ++i) {
      Thread& thread = threads_[i];
      if (thread.state == State::kAtPhaseBarrier && thread.phase_barrier == barrier) Wake(i);
    }
  }
  state.Store(barrier);
}

void BlockExecutor::WaitAtPhaseBarrier(const uint64_t* barrier, uint32_t parity, CallSite at) {
  RuntimeScope scope;
  if (!PhaseBarrier::Load(barrier).is_initialized()) {
    Fault("an mbarrier that was not initialised", at);
  }
  current().phase_barrier = barrier;
  while (!PhaseBarrier::Load(barrier).IsComplete(parity)) Wait(State::kAtPhaseBarrier, at);
  TsanAcquire(const_cast<uint64_t*>(barrier));
}

bool BlockExecutor::TakeCopy(size_t prior, LateCopy& copy) {
  RuntimeScope scope;
  const bool was_fenced = late_copies().unfenced().empty();
  if (!late_copies().Take(prior, copy)) return false;
  if (was_fenced) ++num_unfenced_;
  return true;
}

void BlockExecutor::FenceCopies() {
  RuntimeScope scope;
  if (!late_copies().unfenced().empty()) --num_unfenced_;
  late_copies().Fence();
}

bool BlockExecutor::IsUnfenced(const void* begin) const {
  if (num_unfenced_ == 0) return false;
  for (int i = 0; i < num_threads_; ++i) {
    for (const LateCopy& copy : threads_[i].late_copies.unfenced()) {
      if (begin >= copy.to && begin < static_cast<const char*>(copy.to) + copy.bytes) return true;
    }
  }
  return false;
}

void* BlockExecutor::StaticSharedArray(const void* site, size_t bytes) {
  RuntimeScope scope;
  return shared_memory_.Array(site, bytes);
}

void* BlockExecutor::DynamicSharedArray() {
  RuntimeScope scope;
  return shared_memory_.Array(launch_, launch_->dynamic_shared_bytes);
}

void BlockExecutor::Fault(const std::string& message, CallSite at) {
  fault_ = absl::StrCat(message, " at ", Describe(at), " (block ", blockIdx.x, ",", blockIdx.y, ",",
                        blockIdx.z, " thread ", current_, ")");
  // The fiber is left for good: all callers are inside one scope.
  RuntimeScope::End();
  current().fiber->Finish();
}

void BlockExecutor::Wait(State state, CallSite at) {
  current().state = state;
  current().at = at;
  current().fiber->Yield();
  current().state = State::kReady;
}

void BlockExecutor::Wake(int thread) {
  warps_[static_cast<size_t>(thread / kWarpLanes)].ready |= 1u << (thread % kWarpLanes);
}

std::string BlockExecutor::Deadlock() const {
  std::map<std::string, int> states;
  for (int i = 0; i < num_threads_; ++i) {
    switch (threads_[i].state) {
      case State::kReady:
        break;
      case State::kAtBarrier:
        ++states[absl::StrCat("at __syncthreads() in ", Describe(threads_[i].at))];
        break;
      case State::kInExchange:
        ++states[absl::StrCat("in a warp collective at ", Describe(threads_[i].at))];
        break;
      case State::kAtWarpgroupBarrier:
        ++states[absl::StrCat("at a warpgroup's barrier in ", Describe(threads_[i].at))];
        break;
      case State::kAtPhaseBarrier:
        ++states[absl::StrCat("at an mbarrier in ", Describe(threads_[i].at))];
        break;
      case State::kExited:
        ++states["exited"];
        break;
    }
  }
  std::string message = "deadlock:";
  for (const auto& [state, count] : states) absl::StrAppend(&message, " ", count, " ", state);
  return message;
}

}  // namespace kvec::cusim
