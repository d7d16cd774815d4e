#ifndef KVEC_TESTS_CUSIM_KERNEL_LAUNCH_H_
#define KVEC_TESTS_CUSIM_KERNEL_LAUNCH_H_

// The C++ half of the runtime's interface, which the toolkit's cuda_runtime.h adds to
// cuda_runtime_api.h.

#include <cuda_runtime_api.h>

#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cusim/device_calls.h"

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  // Copied now, as by a real launch.
  std::tuple<std::decay_t<Parameters>...> copied(std::forward<Arguments>(arguments)...);
  return kvec::cusim::LaunchKernel(
      reinterpret_cast<const void*>(kernel), config->stream,
      {config->gridDim, config->blockDim, config->dynamicSmemBytes, __PRETTY_FUNCTION__,
       [kernel, copied = std::move(copied)] { std::apply(kernel, copied); }});
}

template <typename T>
cudaError_t cudaFuncSetAttribute(T* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

#endif  // KVEC_TESTS_CUSIM_KERNEL_LAUNCH_H_
