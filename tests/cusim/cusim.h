#ifndef KVEC_TESTS_CUSIM_CUSIM_H_
#define KVEC_TESTS_CUSIM_CUSIM_H_

#include <driver_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

// A stand-in for a GPU and libcudart, so that kernels/cuda is tested on machines without one: the
// same .cu files, compiled by the host's compiler with tests/cusim/include before the toolkit's
// headers.
//
// - A block's threads are fibers. Barriers and warp collectives are exact: who misses one, or waits
//   at another, is reported with its place.
// - Streams are queues that run when somebody waits for them, and no earlier: what lacks an event
// or
//   a synchronisation finds its input missing.
// - Blocks, warps, lanes and streams take turns in the order of the test's choice; what lacks a
//   barrier gives another result in one of them.
// - Copies into shared memory that a thread waits for later happen when it waits.
// - Products of a warpgroup (wgmma) happen when it waits for them; what may not be touched
// meanwhile
//   is watched.
// - Shared and device memory is full of NaN before it is written, and ends at guard bytes that are
//   checked after every kernel. The host cannot touch device memory but through the runtime.
// - Under AddressSanitizer every access out of bounds is seen, and under ThreadSanitizer every pair
//   of accesses that nothing orders.
// - Graphs: what a captured stream was given runs at every launch. What a real device refuses
//   meanwhile is refused: waiting, allocating, pageable memory.
//
// Not there: the default stream, __shared__ without kernels/cuda/shared_memory.h's macros, thread
// block clusters, inline PTX but for kernels/cuda/tensor_core.h's (ptx.h), warpgroup.h's and
// wgmma.h's (wgmma.h), captures over several streams.
//
// Calls from several host threads take turns; a kernel runs on the thread that waits for it.
namespace kvec::cusim {

enum class Order {
  kForward,  // lowest first
  kReverse,
  kRandom
};

struct Options {
  Order order = Order::kForward;
  uint64_t seed = 1;    // of kRandom
  int num_devices = 1;  // 0: cudaErrorNoDevice
  size_t device_memory_bytes = size_t{4} << 30;
  int compute_capability = 90;    // ten times its number
  bool negates_products = false;  // wgmma's: what a card could do that nobody has tried
  size_t block_shared_bytes = size_t{227} << 10;  // that the device says a block may have
};

// Programs that do not call Reset have KVEC_CUSIM_DEVICES devices (1). Devices share their memory.

// Forgets a fault and begins anew with `options`. No kernel may be under way.
void Reset(const Options& options = {});

// For stand-ins of libraries that queue work of their own: it runs when the stream has come to it
// and is_ready, which others may make true at any time, and may touch device memory. Of a stream
// that is being captured it becomes part of the graph, and waits and runs at every launch.
cudaError_t PushWork(cudaStream_t stream, std::function<void()> run,
                     std::function<bool()> is_ready = nullptr);

// What a kernel did wrong, and where; empty: nothing since Reset. Like a real device's, such an
// error is sticky: the runtime's functions return cudaErrorLaunchFailure ever after.
std::string FaultMessage();

// Kernels, of graphs too, and their blocks that have run since Reset.
int64_t NumKernelsRun();
int64_t NumBlocksRun();

// Calls of one of the runtime's functions since Reset.
int64_t NumCalls(const std::string& function);

// Graphs, executable ones among them, that were not destroyed.
int NumGraphs();

// How often since Reset the host has waited for work that had not run: by synchronising, by copies
// to memory that is not pinned, by freeing memory.
int64_t NumWaits();

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_CUSIM_H_
