#ifndef KVEC_TESTS_CUSIM_INCLUDE_CUDA_RUNTIME_H_
#define KVEC_TESTS_CUSIM_INCLUDE_CUDA_RUNTIME_H_

// Found before the toolkit's header of this name when a .cu file is compiled for the simulator. The
// toolkit's headers that need no CUDA compiler come first: they use the words that mean nothing
// below.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime_api.h>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#undef __shared__  // see kernels/cuda/shared_memory.h

#include "tests/cusim/builtins.h"
#include "tests/cusim/kernel_launch.h"
#include "tests/cusim/ptx.h"
#include "tests/cusim/wgmma.h"

#endif  // KVEC_TESTS_CUSIM_INCLUDE_CUDA_RUNTIME_H_
