#ifndef KVEC_TESTS_CUSIM_RUNTIME_H_
#define KVEC_TESTS_CUSIM_RUNTIME_H_

#include <driver_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cusim/block_executor.h"
#include "tests/cusim/cusim.h"
#include "tests/cusim/graph.h"
#include "tests/cusim/launch.h"
#include "tests/cusim/memory_region.h"
#include "tests/cusim/stream.h"

namespace kvec::cusim {

// The state behind the runtime's functions (cudart.cc): the devices' streams, and their memory,
// which they share. All is called with mutex() held; what waits for another thread or process gives
// it up meanwhile.
class Runtime {
 public:
  static Runtime& Get();  // with the lock held already, or from within a kernel
  static std::mutex& mutex();
  static void Reset(const Options& options);

  explicit Runtime(const Options& options);

  cudaError_t Launch(const void* kernel, Stream& stream, cusim::Launch launch);
  cudaError_t CopyRows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                       size_t height, cudaMemcpyKind kind, Stream& stream);
  cudaError_t Set(void* memory, int value, size_t bytes, Stream& stream);
  void AllowDynamicShared(const void* kernel, size_t bytes) { allowed_shared_[kernel] = bytes; }

  // Runs what was pushed to a stream, and what that waits for; the fault, if there was one.
  cudaError_t Finish(Stream& stream);
  // All streams of the calling thread's device.
  cudaError_t FinishAll();
  cudaError_t FinishEvent(Event& event);

  // For what cannot be captured: cudaErrorStreamCaptureUnsupported, and the capture comes to
  // nothing, when the stream is being captured; of any stream, when the calling thread captures.
  cudaError_t RejectCapture(Stream& stream);
  cudaError_t RejectCaptureByThread();

  cudaError_t BeginCapture(Stream& stream);
  // Null in `graph` when there is none.
  cudaError_t EndCapture(Stream& stream, Graph*& graph);
  // Both graphs and executable ones are kept until DestroyGraph.
  Graph* AddGraph(const Graph& graph);
  cudaError_t DestroyGraph(const Graph* graph);
  cudaError_t LaunchGraph(const Graph* graph, Stream& stream);
  int num_graphs() const { return static_cast<int>(graphs_.size()); }

  // `error`, or the fault that outlasts everything.
  cudaError_t Return(cudaError_t error);
  cudaError_t TakeLastError();

  const Options& options() const { return options_; }
  MemoryRegion& device_memory() { return device_memory_; }
  MemoryRegion& pinned_memory() { return pinned_memory_; }
  StreamSet& streams() { return streams_; }
  static int& current_device();  // of the calling thread
  Event* CreateEvent();
  const std::string& fault() const { return fault_; }
  int64_t num_kernels_run() const { return num_kernels_run_; }
  int64_t num_blocks_run() const { return executor_.num_blocks_run(); }
  void CountCall(const std::string& function) { ++num_calls_[function]; }
  int64_t num_calls(const std::string& function) { return num_calls_[function]; }
  int64_t num_waits() const { return num_waits_; }

 private:
  void RunKernel(const cusim::Launch& launch);
  void RunUntil(const std::function<bool()>& is_done, const std::function<const Stream*()>& wanted);
  cudaError_t CheckSpaces(const void* to, const void* from, size_t bytes_to, size_t bytes_from,
                          cudaMemcpyKind kind) const;

  const Options options_;
  MemoryRegion device_memory_;
  MemoryRegion pinned_memory_;
  StreamSet streams_;
  BlockExecutor executor_;
  // Destroyed ones too, until Reset: streams may still wait for them.
  std::vector<std::unique_ptr<Event>> events_;
  std::map<const void*, size_t> allowed_shared_;  // cudaFuncSetAttribute
  int64_t num_waits_ = 0;
  int64_t num_kernels_run_ = 0;
  std::map<const Graph*, std::unique_ptr<Graph>> graphs_;
  cudaError_t last_error_ = cudaSuccess;
  std::string fault_;
  std::map<std::string, int64_t> num_calls_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_RUNTIME_H_
