#ifndef KVEC_KERNELS_CUDA_WARPGROUP_H_
#define KVEC_KERNELS_CUDA_WARPGROUP_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/warp_math.h"

// What a block of compute capability 9.0 has to divide the work between its warpgroups, of four
// warps each: barriers in shared memory, and registers that one gives to another. By PTX
// ("mbarrier", "setmaxnreg", "bar.sync"), as macros, because the host simulator (tests/cusim)
// brings its own. Device code.
#ifndef KVEC_MBARRIER_INIT
#define KVEC_SHARED_ADDRESS(pointer) static_cast<uint32_t>(__cvta_generic_to_shared(pointer))
#define KVEC_MBARRIER_INIT(barrier, count)                                                    \
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(KVEC_SHARED_ADDRESS(barrier)), \
               "r"(count)                                                                     \
               : "memory")
#define KVEC_MBARRIER_ARRIVE(barrier)                                                         \
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(KVEC_SHARED_ADDRESS(barrier)) \
               : "memory")
#define KVEC_MBARRIER_TRY_WAIT(is_done, barrier, parity)           \
  asm volatile(                                                    \
      "{\n.reg .pred done;\n"                                      \
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n" \
      "selp.u32 %0, 1, 0, done;\n}"                                \
      : "=r"(is_done)                                              \
      : "r"(KVEC_SHARED_ADDRESS(barrier)), "r"(parity)             \
      : "memory")
#define KVEC_WARPGROUP_SYNC(id) asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory")
#define KVEC_RAISE_REGISTERS(count) \
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count) : "memory")
#define KVEC_LOWER_REGISTERS(count) \
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count) : "memory")
#endif

namespace kvec::kernels::cuda {

inline constexpr int kWarpgroupThreads = 128;

// By way of a shuffle, from which the compiler knows that all lanes have the same.
__device__ __forceinline__ int WarpgroupOfBlock() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroupThreads, 0);
}

// Of the calling warpgroup alone.
__device__ __forceinline__ void SyncWarpgroup() {
  KVEC_WARPGROUP_SYNC(1 + WarpgroupOfBlock());  // 0 is __syncthreads()'
}

// Barrier that opens, time after time, once `count` threads have arrived. Whole warps wait, and say
// for which of its openings, counted from 0: the next, or the last.
class PhaseBarrier {
 public:
  // By one thread, before a __syncthreads().
  __device__ __forceinline__ void Init(unsigned count) { KVEC_MBARRIER_INIT(&bits_, count); }
  __device__ __forceinline__ void Arrive() { KVEC_MBARRIER_ARRIVE(&bits_); }
  __device__ __forceinline__ void Wait(int opening) {
    uint32_t is_open = 0;
    while (is_open == 0) {
      KVEC_MBARRIER_TRY_WAIT(is_open, &bits_, static_cast<uint32_t>(opening & 1));
    }
    __syncwarp();  // lanes may leave one by one, and products want whole warps
  }

 private:
  uint64_t bits_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WARPGROUP_H_
