#ifndef KVEC_KERNELS_CUDA_LAUNCH_H_
#define KVEC_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

namespace kvec::kernels::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
};

// Queues a kernel. Not by <<<…>>>, which only a CUDA compiler understands: the host simulator
// compiles the same files.
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
                   Arguments&&... arguments) {
  constexpr size_t kSharedBytesUnasked = 48 << 10;
  if (shape.dynamic_shared_bytes > kSharedBytesUnasked) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.dynamic_shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.dynamic_shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

inline int DivideUp(int a, int b) { return (a + b - 1) / b; }

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_LAUNCH_H_
