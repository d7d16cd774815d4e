#ifndef KVEC_KERNELS_CUDA_WGMMA_H_
#define KVEC_KERNELS_CUDA_WGMMA_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/warpgroup.h"

// The products of a warpgroup that only sm_90a has: D[64][N] += A[64][16] · B[16][N] of 16-bit
// numbers, by PTX ("wgmma.mma_async"). They run beside the threads that began them: before it has
// waited, a thread may touch neither D nor what A and B are read from.
//
// Thread t of the warpgroup holds of D's rows 16w … 16w + 15, with w = t / 32, what lane t % 32
// holds of products of a warp (tensor_core.h), side by side; of an A in registers likewise. PTX
// manual, "Register Fragments" of wgmma.mma_async.m64nNk16.
//
// Macros, because the host simulator (tests/cusim) brings its own.
// KVEC_HAS_WGMMA: kernels may take them.
#ifndef KVEC_WGMMA_FENCE
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define KVEC_HAS_WGMMA
#endif
#define KVEC_WGMMA_FENCE() asm volatile("wgmma.fence.sync.aligned;" ::: "memory")
#define KVEC_WGMMA_COMMIT() asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory")
#define KVEC_WGMMA_WAIT(prior) \
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(prior) : "memory")
#define KVEC_PROXY_FENCE() asm volatile("fence.proxy.async.shared::cta;" ::: "memory")
// Nothing that reads or writes the number moves across.
#define KVEC_PIN(number) asm volatile("" : "+f"(number)::"memory")
// clang-format off
#define KVEC_WGMMA_D8_(d, i) \
  "+f"((d)[i]), "+f"((d)[i + 1]), "+f"((d)[i + 2]), "+f"((d)[i + 3]), \
  "+f"((d)[i + 4]), "+f"((d)[i + 5]), "+f"((d)[i + 6]), "+f"((d)[i + 7])
#define KVEC_WGMMA_D32_(d, i) \
  KVEC_WGMMA_D8_(d, i), KVEC_WGMMA_D8_(d, i + 8), KVEC_WGMMA_D8_(d, i + 16), KVEC_WGMMA_D8_(d, i + 24)
#define KVEC_WGMMA_NAMES32_ \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define KVEC_WGMMA_NAMES64_ KVEC_WGMMA_NAMES32_ ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// The last operands: whether the old D counts; 1 each, A's and B's signs; of A and B in shared
// memory 0 for one that runs along K, 1 for one that runs along M or N.
#define KVEC_WGMMA_SHARED_128_(type, d, a, b, adds) \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n" \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" KVEC_WGMMA_NAMES64_ "}, %64, %65, adds, 1, 1, 0, 0;\n}" \
               : KVEC_WGMMA_D32_(d, 0), KVEC_WGMMA_D32_(d, 32) \
               : "l"(a), "l"(b), "r"(static_cast<int>(adds)) : "memory")
#define KVEC_WGMMA_REGISTERS_64_(type, d, a, b) \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %37, 0;\n" \
               "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type \
               " {" KVEC_WGMMA_NAMES32_ "}, {%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n}" \
               : KVEC_WGMMA_D32_(d, 0) \
               : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "l"(b), "r"(1) : "memory")
#define KVEC_WGMMA_REGISTERS_128_(type, d, a, b) \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %69, 0;\n" \
               "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " {" KVEC_WGMMA_NAMES64_ "}, {%64, %65, %66, %67}, %68, adds, 1, 1, 1;\n}" \
               : KVEC_WGMMA_D32_(d, 0), KVEC_WGMMA_D32_(d, 32) \
               : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "l"(b), "r"(1) : "memory")
// clang-format on
#define KVEC_WGMMA_SHARED_128_F16(d, a, b, adds) KVEC_WGMMA_SHARED_128_("f16", d, a, b, adds)
#define KVEC_WGMMA_SHARED_128_BF16(d, a, b, adds) KVEC_WGMMA_SHARED_128_("bf16", d, a, b, adds)
#define KVEC_WGMMA_REGISTERS_64_F16(d, a, b) KVEC_WGMMA_REGISTERS_64_("f16", d, a, b)
#define KVEC_WGMMA_REGISTERS_64_BF16(d, a, b) KVEC_WGMMA_REGISTERS_64_("bf16", d, a, b)
#define KVEC_WGMMA_REGISTERS_128_F16(d, a, b) KVEC_WGMMA_REGISTERS_128_("f16", d, a, b)
#define KVEC_WGMMA_REGISTERS_128_BF16(d, a, b) KVEC_WGMMA_REGISTERS_128_("bf16", d, a, b)
#endif

namespace kvec::kernels::cuda {

inline constexpr int kWarpgroupRows = 64;  // of A and D

// What the thread wrote to shared memory is seen by products that are begun after a barrier.
__device__ __forceinline__ void ShowToProducts() { KVEC_PROXY_FENCE(); }

// Before the first product, and whenever registers of a product were touched by anything else.
__device__ __forceinline__ void FenceRegisters() { KVEC_WGMMA_FENCE(); }

// Products begun since the last call are one to wait for.
__device__ __forceinline__ void CommitProducts() { KVEC_WGMMA_COMMIT(); }

// Waits for all but the last kPrior commits. The compiler is told that `numbers` changed: it sees
// products, too, as done when they are begun.
template <int kPrior, int... kSizes>
__device__ __forceinline__ void WaitForProducts(float (&... numbers)[kSizes]) {
  KVEC_WGMMA_WAIT(kPrior);
  const auto pin = [](auto& array) {
#pragma unroll
    for (float& number : array) KVEC_PIN(number);
  };
  (pin(numbers), ...);
}

// Begins d = a · b, or d += a · b: both in shared memory, along K.
template <typename Stored>
__device__ __forceinline__ void BeginProduct(float (&d)[64], uint64_t a, uint64_t b, bool adds) {
  if constexpr (std::is_same_v<Stored, __half>) {
    KVEC_WGMMA_SHARED_128_F16(d, a, b, adds);
  } else {
    KVEC_WGMMA_SHARED_128_BF16(d, a, b, adds);
  }
}

// Begins d += a · b with a in registers and b in shared memory, along N.
template <typename Stored, int kSize>
__device__ __forceinline__ void BeginProduct(float (&d)[kSize], const uint32_t (&a)[4],
                                             uint64_t b) {
  static_assert(kSize == 32 || kSize == 64);
  if constexpr (std::is_same_v<Stored, __half>) {
    if constexpr (kSize == 32) {
      KVEC_WGMMA_REGISTERS_64_F16(d, a, b);
    } else {
      KVEC_WGMMA_REGISTERS_128_F16(d, a, b);
    }
  } else {
    if constexpr (kSize == 32) {
      KVEC_WGMMA_REGISTERS_64_BF16(d, a, b);
    } else {
      KVEC_WGMMA_REGISTERS_128_BF16(d, a, b);
    }
  }
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WGMMA_H_
