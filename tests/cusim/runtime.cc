#include "tests/cusim/runtime.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cusim/sanitizer.h"

namespace kvec::cusim {
namespace {

constexpr size_t kPinnedBytes = size_t{4} << 30;
constexpr size_t kDynamicSharedUnasked = size_t{48} << 10;  // beyond it a kernel needs an attribute
constexpr unsigned kMaxGridYZ = 65535;
// Between two looks at what another thread or process has to do first.
constexpr std::chrono::microseconds kPollInterval(50);

// For programs that do not call Reset.
Options EnvironmentOptions() {
  Options options;
  if (const char* const devices = std::getenv("KVEC_CUSIM_DEVICES")) {
    options.num_devices = std::atoi(devices);
  }
  return options;
}

std::unique_ptr<Runtime>& Instance() {
  static std::unique_ptr<Runtime> instance = std::make_unique<Runtime>(EnvironmentOptions());
  return instance;
}

// While one exists, device memory may be touched.
class DeviceWork {
 public:
  explicit DeviceWork(MemoryRegion& memory) : memory_(memory) { memory_.SetAccessible(true); }
  ~DeviceWork() { memory_.SetAccessible(false); }
  DeviceWork(const DeviceWork&) = delete;
  DeviceWork& operator=(const DeviceWork&) = delete;

 private:
  MemoryRegion& memory_;
};

// Bytes from the first row's begin to the last row's end.
size_t Extent(size_t pitch, size_t width, size_t height) {
  return height == 0 ? 0 : (height - 1) * pitch + width;
}

void CopyRowsNow(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                 size_t height) {
  for (size_t row = 0; row < height; ++row) {
    std::memmove(static_cast<char*>(to) + row * to_pitch,
                 static_cast<const char*>(from) + row * from_pitch, width);
  }
}

}  // namespace

Runtime& Runtime::Get() { return *Instance(); }

std::mutex& Runtime::mutex() {
  static std::mutex mutex;
  return mutex;
}

void Runtime::Reset(const Options& options) {
  Instance().reset();
  Instance() = std::make_unique<Runtime>(options);
}

Runtime::Runtime(const Options& options)
    : options_(options),
      device_memory_(options.device_memory_bytes),
      pinned_memory_(kPinnedBytes),
      streams_(options),
      executor_(options) {
  device_memory_.SetAccessible(false);
}

cudaError_t Runtime::Launch(const void* kernel, Stream& stream, cusim::Launch launch) {
  const size_t threads = size_t{launch.block.x} * launch.block.y * launch.block.z;
  const size_t blocks = size_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  if (threads == 0 || threads > BlockExecutor::kMaxThreads || launch.block.z > 64 || blocks == 0 ||
      launch.grid.y > kMaxGridYZ || launch.grid.z > kMaxGridYZ) {
    return Return(cudaErrorInvalidConfiguration);
  }
  const auto allowed = allowed_shared_.find(kernel);
  const size_t most = allowed == allowed_shared_.end() ? kDynamicSharedUnasked : allowed->second;
  if (launch.dynamic_shared_bytes > most) return Return(cudaErrorInvalidValue);
  streams_.Push(stream, {[this, launch = std::move(launch)] { RunKernel(launch); }, nullptr});
  return Return(cudaSuccess);
}

void Runtime::RunKernel(const cusim::Launch& launch) {
  const RuntimeScope scope;
  if (!fault_.empty()) return;
  ++num_kernels_run_;
  fault_ = executor_.Run(launch);
  if (!fault_.empty()) return;
  fault_ = device_memory_.CheckGuards();
  if (!fault_.empty()) absl::StrAppend(&fault_, " in ", launch.name);
}

cudaError_t Runtime::CheckSpaces(const void* to, const void* from, size_t bytes_to,
                                 size_t bytes_from, cudaMemcpyKind kind) const {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault || device_memory_.Contains(to) != to_device ||
      device_memory_.Contains(from) != from_device) {
    return cudaErrorInvalidMemcpyDirection;
  }
  const auto lies_within = [this](const void* memory, size_t bytes) {
    if (device_memory_.Contains(memory)) return device_memory_.Covers(memory, bytes);
    return !pinned_memory_.Contains(memory) || pinned_memory_.Covers(memory, bytes);
  };
  return lies_within(to, bytes_to) && lies_within(from, bytes_from) ? cudaSuccess
                                                                    : cudaErrorInvalidValue;
}

cudaError_t Runtime::CopyRows(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, Stream& stream) {
  if (width > to_pitch || width > from_pitch) return Return(cudaErrorInvalidPitchValue);
  if (width == 0 || height == 0) return Return(cudaSuccess);
  const size_t from_bytes = Extent(from_pitch, width, height);
  const cudaError_t error =
      CheckSpaces(to, from, Extent(to_pitch, width, height), from_bytes, kind);
  if (error != cudaSuccess) return Return(error);
  const bool is_pageable = (kind == cudaMemcpyHostToDevice && !pinned_memory_.Contains(from)) ||
                           (kind == cudaMemcpyDeviceToHost && !pinned_memory_.Contains(to));
  if (is_pageable && stream.capture != nullptr) return RejectCapture(stream);
  if (is_pageable && kind == cudaMemcpyHostToDevice) {
    // A copy from pageable memory has read it when the call returns.
    const auto* begin = static_cast<const char*>(from);
    streams_.Push(stream, {[=, staged = std::vector<char>(begin, begin + from_bytes)] {
                             CopyRowsNow(to, to_pitch, staged.data(), from_pitch, width, height);
                           },
                           nullptr});
    return Return(cudaSuccess);
  }
  streams_.Push(stream,
                {[=] { CopyRowsNow(to, to_pitch, from, from_pitch, width, height); }, nullptr});
  // A copy to pageable memory is done when the call returns.
  return is_pageable ? Finish(stream) : Return(cudaSuccess);
}

cudaError_t Runtime::Set(void* memory, int value, size_t bytes, Stream& stream) {
  if (!device_memory_.Covers(memory, bytes)) return Return(cudaErrorInvalidValue);
  streams_.Push(stream, {[=] { std::memset(memory, value, bytes); }, nullptr});
  return Return(cudaSuccess);
}

cudaError_t Runtime::RejectCapture(Stream& stream) {
  if (stream.capture == nullptr) return Return(cudaSuccess);
  stream.capture->is_valid = false;
  return Return(cudaErrorStreamCaptureUnsupported);
}

cudaError_t Runtime::RejectCaptureByThread() {
  Stream* const stream = streams_.FindCaptured();
  return stream == nullptr ? Return(cudaSuccess) : RejectCapture(*stream);
}

cudaError_t Runtime::BeginCapture(Stream& stream) {
  if (stream.capture != nullptr) return Return(cudaErrorIllegalState);
  stream.capture = std::make_unique<Capture>();
  stream.capture->thread = std::this_thread::get_id();
  return Return(cudaSuccess);
}

cudaError_t Runtime::EndCapture(Stream& stream, Graph*& graph) {
  graph = nullptr;
  if (stream.capture == nullptr) return Return(cudaErrorIllegalState);
  if (stream.capture->thread != std::this_thread::get_id()) {
    return Return(cudaErrorStreamCaptureWrongThread);
  }
  const std::unique_ptr<Capture> capture = std::move(stream.capture);
  if (!capture->is_valid) return Return(cudaErrorStreamCaptureInvalidated);
  graph = AddGraph(capture->graph);
  return Return(cudaSuccess);
}

Graph* Runtime::AddGraph(const Graph& graph) {
  auto copy = std::make_unique<Graph>(graph);
  Graph* const added = copy.get();
  graphs_.emplace(added, std::move(copy));
  return added;
}

cudaError_t Runtime::DestroyGraph(const Graph* graph) {
  return Return(graphs_.erase(graph) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t Runtime::LaunchGraph(const Graph* graph, Stream& stream) {
  if (graphs_.find(graph) == graphs_.end()) return Return(cudaErrorInvalidValue);
  for (const auto& work : graph->works) streams_.Push(stream, work);
  return Return(cudaSuccess);
}

int& Runtime::current_device() {
  thread_local int device = 0;
  return device;
}

void Runtime::RunUntil(const std::function<bool()>& is_done,
                       const std::function<const Stream*()>& wanted) {
  if (is_done()) return;
  ++num_waits_;
  while (true) {
    {
      const DeviceWork work(device_memory_);
      while (!is_done() && streams_.RunOne(wanted())) {
      }
    }
    if (is_done()) return;
    std::unique_lock<std::mutex> lock(mutex(), std::adopt_lock);  // the caller's
    lock.unlock();
    std::this_thread::sleep_for(kPollInterval);
    lock.lock();
    lock.release();
  }
}

cudaError_t Runtime::Finish(Stream& stream) {
  RunUntil([&] { return stream.works.empty(); }, [&] { return &stream; });
  TsanAcquire(&stream);
  return Return(cudaSuccess);
}

cudaError_t Runtime::FinishAll() {
  const int device = current_device();
  RunUntil([&] { return streams_.FindBusy(device) == nullptr; },
           [&] { return streams_.FindBusy(device); });
  streams_.Acquire(device);
  return Return(cudaSuccess);
}

cudaError_t Runtime::FinishEvent(Event& event) {
  RunUntil([&] { return event.completed >= event.recorded; }, [] { return nullptr; });
  TsanAcquire(&event);
  return Return(cudaSuccess);
}

cudaError_t Runtime::Return(cudaError_t error) {
  if (!fault_.empty()) return cudaErrorLaunchFailure;
  if (error != cudaSuccess) last_error_ = error;
  return error;
}

cudaError_t Runtime::TakeLastError() {
  const cudaError_t error = std::exchange(last_error_, cudaSuccess);
  return fault_.empty() ? error : cudaErrorLaunchFailure;
}

Event* Runtime::CreateEvent() {
  events_.push_back(std::make_unique<Event>());
  return events_.back().get();
}

}  // namespace kvec::cusim
