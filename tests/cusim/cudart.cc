// The runtime's functions, with the toolkit's own prototypes: those that kernels/cuda calls.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <iterator>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "tests/cusim/runtime.h"

namespace kvec::cusim {
namespace {

// The runtime, for the time of one call.
class Locked {
 public:
  // `function` is the one that makes it.
  explicit Locked(const char* function = __builtin_FUNCTION()) : lock_(Runtime::mutex()) {
    Runtime::Get().CountCall(function);
  }
  Runtime* operator->() const { return &Runtime::Get(); }
  Runtime& operator*() const { return Runtime::Get(); }

 private:
  const std::lock_guard<std::mutex> lock_;
};

// The default stream orders what a program forgot to order: here it is no stream.
Stream* FindStream(Runtime& runtime, cudaStream_t stream) {
  auto* found = reinterpret_cast<Stream*>(stream);
  return runtime.streams().Contains(found) ? found : nullptr;
}

Graph* ToGraph(cudaGraph_t graph) { return reinterpret_cast<Graph*>(graph); }
Graph* ToGraph(cudaGraphExec_t graph) { return reinterpret_cast<Graph*>(graph); }

Event& ToEvent(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }

cudaError_t Allocate(MemoryRegion& region, void** memory, size_t bytes, Runtime& runtime) {
  *memory = nullptr;
  const cudaError_t error = runtime.RejectCaptureByThread();
  if (error != cudaSuccess) return error;
  *memory = region.Allocate(bytes);
  return runtime.Return(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

// Waits for everything, as the real ones do.
cudaError_t Free(MemoryRegion& region, void* memory, Runtime& runtime) {
  if (memory == nullptr) return runtime.Return(cudaSuccess);
  const cudaError_t error = runtime.RejectCaptureByThread();
  if (error != cudaSuccess) return error;
  (void)runtime.FinishAll();
  return runtime.Return(region.Free(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t CopyRows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                     size_t height, cudaMemcpyKind kind, cudaStream_t stream, Runtime& runtime) {
  Stream* const found = FindStream(runtime, stream);
  if (found == nullptr) return runtime.Return(cudaErrorInvalidResourceHandle);
  return runtime.CopyRows(to, to_pitch, from, from_pitch, width, height, kind, *found);
}

}  // namespace

void Reset(const Options& options) {
  const std::lock_guard<std::mutex> lock(Runtime::mutex());
  Runtime::Reset(options);
}

std::string FaultMessage() { return Locked()->fault(); }

int64_t NumKernelsRun() { return Locked()->num_kernels_run(); }

int64_t NumBlocksRun() { return Locked()->num_blocks_run(); }

int64_t NumCalls(const std::string& function) { return Locked()->num_calls(function); }

int64_t NumWaits() { return Locked()->num_waits(); }

int NumGraphs() { return Locked()->num_graphs(); }

cudaError_t PushWork(cudaStream_t stream, std::function<void()> run,
                     std::function<bool()> is_ready) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  runtime->streams().Push(*found, {std::move(run), std::move(is_ready)});
  return runtime->Return(cudaSuccess);
}

cudaError_t LaunchKernel(const void* kernel, cudaStream_t stream, Launch launch) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  return runtime->Launch(kernel, *found, std::move(launch));
}

}  // namespace kvec::cusim

using namespace kvec::cusim;  // the functions below are libcudart's and have no namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  Locked runtime;
  *count = runtime->options().num_devices;
  return runtime->Return(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
  Locked runtime;
  const bool exists = device >= 0 && device < runtime->options().num_devices;
  if (exists) Runtime::current_device() = device;
  return runtime->Return(exists ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* device) {
  Locked runtime;
  *device = Runtime::current_device();
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  Locked runtime;
  if (attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin) {
    return runtime->Return(cudaErrorInvalidValue);
  }
  *value = static_cast<int>(runtime->options().block_shared_bytes);
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = cudaDeviceProp{};
  constexpr char kName[] = "host simulator";
  std::copy(std::begin(kName), std::end(kName), properties->name);
  {
    Locked runtime;
    properties->major = runtime->options().compute_capability / 10;
    properties->minor = runtime->options().compute_capability % 10;
  }
  return cudaSetDevice(device);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  Locked runtime;
  *total_bytes = runtime->device_memory().capacity_bytes();
  *free_bytes = *total_bytes - runtime->device_memory().used_bytes();
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  Locked runtime;
  return Allocate(runtime->device_memory(), memory, bytes, *runtime);
}

cudaError_t cudaFree(void* memory) {
  Locked runtime;
  return Free(runtime->device_memory(), memory, *runtime);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  Locked runtime;
  return Allocate(runtime->pinned_memory(), memory, bytes, *runtime);
}

cudaError_t cudaFreeHost(void* memory) {
  Locked runtime;
  return Free(runtime->pinned_memory(), memory, *runtime);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  Locked runtime;
  return CopyRows(to, to_pitch, from, from_pitch, width, height, kind, stream, *runtime);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Locked runtime;
  return CopyRows(to, bytes, from, bytes, bytes, 1, kind, stream, *runtime);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  return runtime->Set(memory, value, bytes, *found);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Locked runtime;
  *stream = reinterpret_cast<cudaStream_t>(runtime->streams().Create(Runtime::current_device()));
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  if (found->capture != nullptr) return runtime->RejectCapture(*found);
  (void)runtime->Finish(*found);
  runtime->streams().Destroy(found);
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  if (found->capture != nullptr) return runtime->RejectCapture(*found);
  return runtime->Finish(*found);
}

cudaError_t cudaDeviceSynchronize() {
  Locked runtime;
  const cudaError_t error = runtime->RejectCaptureByThread();
  return error == cudaSuccess ? runtime->FinishAll() : error;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  Locked runtime;
  *event = reinterpret_cast<cudaEvent_t>(runtime->CreateEvent());
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

// There is no clock: what measures gets a number to go on with.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  Locked runtime;
  cudaError_t error = runtime->RejectCaptureByThread();
  if (error == cudaSuccess) error = runtime->FinishEvent(ToEvent(begin));
  if (error == cudaSuccess) error = runtime->FinishEvent(ToEvent(end));
  *milliseconds = 1;
  return error;
}

cudaError_t cudaEventDestroy(cudaEvent_t) { return Locked()->Return(cudaSuccess); }

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  if (found->capture != nullptr) return runtime->RejectCapture(*found);
  runtime->streams().Record(*found, ToEvent(event));
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  if (found->capture != nullptr) return runtime->RejectCapture(*found);
  runtime->streams().WaitFor(*found, ToEvent(event));
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Locked runtime;
  const cudaError_t error = runtime->RejectCaptureByThread();
  return error == cudaSuccess ? runtime->FinishEvent(ToEvent(event)) : error;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  return runtime->BeginCapture(*found);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  Graph* captured = nullptr;
  const cudaError_t error = runtime->EndCapture(*found, captured);
  *graph = reinterpret_cast<cudaGraph_t>(captured);
  return error;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  *status = found->capture == nullptr  ? cudaStreamCaptureStatusNone
            : found->capture->is_valid ? cudaStreamCaptureStatusActive
                                       : cudaStreamCaptureStatusInvalidated;
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  Locked runtime;
  *executable = reinterpret_cast<cudaGraphExec_t>(runtime->AddGraph(*ToGraph(graph)));
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Locked runtime;
  Stream* const found = FindStream(*runtime, stream);
  if (found == nullptr) return runtime->Return(cudaErrorInvalidResourceHandle);
  if (found->capture != nullptr) return runtime->RejectCapture(*found);
  return runtime->LaunchGraph(ToGraph(executable), *found);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return Locked()->DestroyGraph(ToGraph(graph)); }

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return Locked()->DestroyGraph(ToGraph(executable));
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  Locked runtime;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > kvec::cusim::SharedMemory::kMaxBytes) {
    return runtime->Return(cudaErrorInvalidValue);
  }
  runtime->AllowDynamicShared(kernel, static_cast<size_t>(value));
  return runtime->Return(cudaSuccess);
}

cudaError_t cudaGetLastError() { return Locked()->TakeLastError(); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    default:
      return "another CUDA error";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaErrorLaunchFailure) return cudaGetErrorName(error);
  static std::set<std::string> messages;  // kept: callers hold on to them
  Locked runtime;
  return messages.insert(runtime->fault()).first->c_str();
}
}
