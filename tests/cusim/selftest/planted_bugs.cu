#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "tests/cusim/selftest/planted_bugs.h"

namespace kvec::cusim {
namespace {

using kernels::cuda::Launch;

constexpr unsigned kAllLanes = 0xFFFFFFFF;

__device__ int ThreadOfGrid() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

__global__ void ReverseKernel(float* out) {
  KVEC_SHARED_ARRAY(float, values, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = static_cast<float>(thread);
  __syncthreads();
  out[thread] = values[kThreads - 1 - thread];
}

__global__ void ReverseWithoutBarrierKernel(float* out) {
  KVEC_SHARED_ARRAY(float, values, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = static_cast<float>(thread);
  out[thread] = values[kThreads - 1 - thread];
}

// Reads what it copied once all but the last kPrior of two commits are done.
template <int kPrior>
__global__ void CopyAsyncKernel(float* out) {
  KVEC_SHARED_ARRAY(float, values, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  out[thread] = static_cast<float>(kThreads - 1 - thread);
  __pipeline_memcpy_async(&values[thread], &out[thread], sizeof(float));
  __pipeline_commit();
  __pipeline_commit();
  __pipeline_wait_prior(kPrior);
  out[thread] = values[thread];
}

// 63 - i is the sum of the warp's 31 - lane and 32 of the first warp, by way of shuffles.
__global__ void ShuffleKernel(float* out) {
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int mirrored = __shfl_xor_sync(kAllLanes, lane, 31);
  const unsigned first_warp = __ballot_sync(kAllLanes, thread < 32);
  out[thread] = static_cast<float>(mirrored + __popc(first_warp));
}

__global__ void ShuffleInDivergedWarpKernel(float* out) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread % 32 < 16) out[thread] = __shfl_xor_sync(kAllLanes, 1.0f, 1);
}

__global__ void WarpExchangeWithoutSyncKernel(float* out) {
  KVEC_SHARED_ARRAY(float, values, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = static_cast<float>(thread);
  __syncthreads();
  values[thread] = values[thread] + 0.0f;
  const float next = values[thread ^ 1];
  values[thread] = 2 * next;  // no __syncwarp(): the neighbour may not have read yet
  out[thread] = values[thread] / 2 + (thread % 2 == 0 ? -1.0f : 1.0f);
}

__global__ void DivergentBarrierKernel(float* out) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}

__global__ void BarrierAfterExitKernel(float* out) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void SharedOverrunKernel(float* out) {
  KVEC_SHARED_ARRAY(float, values, [kThreads]);
  float* const shifted = values + 1;
  shifted[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

__global__ void DeviceOverrunKernel(float* out) { out[threadIdx.x + 1] = 1; }

__global__ void DeviceUnderrunKernel(float* out) {
  float* const before = out - 1;
  before[threadIdx.x] = 1;
}

__global__ void UnwrittenSharedKernel(float* out) {
  KVEC_DYNAMIC_SHARED_ARRAY(float, values);
  if (threadIdx.x > 0) values[threadIdx.x] = 0;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

// Every block adds its own number; out[0 … 63] = 63 - i only once all have run.
__global__ void AddFromAllBlocksKernel(float* out) {
  if (threadIdx.x == 0) out[0] += static_cast<float>(blockIdx.x);
}

__global__ void AddAtomicallyKernel(float* out) {
  const int index = ThreadOfGrid() % kThreads;
  atomicAdd(&out[index], static_cast<float>(kThreads - 1 - index) / kBlocks);
}

__global__ void FillKernel(float* out, float value) { out[threadIdx.x] = value; }

__global__ void AddMirroredIndexKernel(float* out) {
  out[threadIdx.x] += static_cast<float>(kThreads - 1 - static_cast<int>(threadIdx.x));
}

template <void (*kKernel)(float*)>
cudaError_t RunBlock(cudaStream_t stream, cudaStream_t, float* out) {
  return Launch(stream, {1, kThreads, kThreads * sizeof(float)}, kKernel, out);
}

template <void (*kKernel)(float*)>
cudaError_t RunGrid(cudaStream_t stream, cudaStream_t, float* out) {
  cudaMemsetAsync(out, 0, kThreads * sizeof(float), stream);
  return Launch(stream, {kBlocks, kThreads}, kKernel, out);
}

// The second half on another stream.
template <bool kWithEvent>
cudaError_t RunOnTwoStreams(cudaStream_t stream, cudaStream_t other, float* out) {
  cudaError_t error = Launch(other, {1, kThreads}, FillKernel, out, 0.0f);
  cudaEvent_t event = nullptr;
  if (error == cudaSuccess) error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaEventRecord(event, other);
  if (error == cudaSuccess && kWithEvent) error = cudaStreamWaitEvent(stream, event, 0);
  if (error == cudaSuccess) error = Launch(stream, {1, kThreads}, AddMirroredIndexKernel, out);
  if (error == cudaSuccess) error = cudaEventDestroy(event);
  return error;
}

}  // namespace

const std::vector<NamedProgram>& CorrectPrograms() {
  static const auto& programs = *new std::vector<NamedProgram>{
      {"Reverse", RunBlock<ReverseKernel>},
      {"Shuffle", RunBlock<ShuffleKernel>},
      {"CopyAsync", RunBlock<CopyAsyncKernel<1>>},
      {"AddAtomically", RunGrid<AddAtomicallyKernel>},
      {"TwoStreamsWithEvent", RunOnTwoStreams<true>},
  };
  return programs;
}

const std::vector<NamedProgram>& PlantedBugs() {
  static const auto& programs = *new std::vector<NamedProgram>{
      {"MissingBarrier", RunBlock<ReverseWithoutBarrierKernel>},
      {"MissingWarpSync", RunBlock<WarpExchangeWithoutSyncKernel>},
      {"MissingCopyWait", RunBlock<CopyAsyncKernel<2>>},
      {"MissingEvent", RunOnTwoStreams<false>},
      {"RaceBetweenBlocks", RunGrid<AddFromAllBlocksKernel>},
      {"DivergentShuffle", RunBlock<ShuffleInDivergedWarpKernel>},
      {"DivergentBarrier", RunBlock<DivergentBarrierKernel>},
      {"BarrierAfterExit", RunBlock<BarrierAfterExitKernel>},
      {"SharedOverrun", RunBlock<SharedOverrunKernel>},
      {"DeviceOverrun", RunBlock<DeviceOverrunKernel>},
      {"DeviceUnderrun", RunBlock<DeviceUnderrunKernel>},
      {"UnwrittenShared", RunBlock<UnwrittenSharedKernel>},
  };
  return programs;
}

}  // namespace kvec::cusim
