#ifndef KVEC_KERNELS_CUDA_TENSOR_CORE_H_
#define KVEC_KERNELS_CUDA_TENSOR_CORE_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/warp_math.h"

// The tensor cores' products of 16-bit numbers, D[16][8] += A[16][16] · B[16][8], by PTX, whose
// manual ("mma.m16n8k16", "ldmatrix") says which lane holds what. CUDA's WMMA does not, so that
// weights would have to pass through shared memory, and loads bfloat16 four bytes at a time.
//
// Lane l, with g = l / 4 and t = l % 4, holds of D: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t +
// 1); of A, two numbers a word: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8) and their right
// neighbours; of B: (2t, g), (2t + 8, g) and those below.
//
// Macros, because the host simulator (tests/cusim) brings its own.
#ifndef KVEC_LDMATRIX
// Loads four 8x8 matrices, whose rows of 16 bytes the lanes point at: matrix i's row r lane 8i + r.
#define KVEC_LDMATRIX_(layout, to, from)                                                    \
  asm volatile("ldmatrix.sync.aligned.m8n8.x4" layout ".shared.b16 {%0, %1, %2, %3}, [%4];" \
               : "=r"((to)[0]), "=r"((to)[1]), "=r"((to)[2]), "=r"((to)[3])                 \
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(from)))                 \
               : "memory")
#define KVEC_LDMATRIX(to, from) KVEC_LDMATRIX_("", to, from)
#define KVEC_LDMATRIX_TRANSPOSED(to, from) KVEC_LDMATRIX_(".trans", to, from)
#define KVEC_MMA_(type, d, a, b)                                                      \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"((d)[0]), "+f"((d)[1]), "+f"((d)[2]), "+f"((d)[3])               \
               : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"((b)[0]), "r"((b)[1]))
#define KVEC_EX2(to, from) asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(to) : "f"(from))
#define KVEC_MMA_F16(d, a, b) KVEC_MMA_("f16", d, a, b)
#define KVEC_MMA_BF16(d, a, b) KVEC_MMA_("bf16", d, a, b)
#endif

namespace kvec::kernels::cuda {

struct FragmentA {
  uint32_t words[4];
};
struct FragmentB {
  uint32_t words[2];
};
struct FragmentD {
  float numbers[4];
};

// Of two numbers a lane holds the row that is further down by this much.
inline constexpr int kRowsApart = 8;

__device__ __forceinline__ int QuadOfLane() {
  return static_cast<int>(threadIdx.x) % kWarpThreads / 4;
}
__device__ __forceinline__ int LaneOfQuad() { return static_cast<int>(threadIdx.x) % 4; }

// A[16][16] from rows `stride` numbers apart, a multiple of 8.
template <typename Stored>
__device__ __forceinline__ FragmentA LoadA(const Stored* from, int stride) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  FragmentA a;
  KVEC_LDMATRIX(a.words, from + lane % 16 * stride + lane / 16 * 8);
  return a;
}

// Two B[16][8], side by side, of a matrix whose columns lie in memory as rows.
template <typename Stored>
__device__ __forceinline__ void LoadColumnsB(const Stored* from, int stride, FragmentB (&to)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  uint32_t words[4];
  KVEC_LDMATRIX(words, from + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
  to[0] = {{words[0], words[1]}};
  to[1] = {{words[2], words[3]}};
}

// The same of a matrix that lies in memory row by row.
template <typename Stored>
__device__ __forceinline__ void LoadRowsB(const Stored* from, int stride, FragmentB (&to)[2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  uint32_t words[4];
  KVEC_LDMATRIX_TRANSPOSED(words, from + lane % 16 * stride + lane / 16 * 8);
  to[0] = {{words[0], words[1]}};
  to[1] = {{words[2], words[3]}};
}

__device__ __forceinline__ uint32_t PackPair(__half, float first, float second) {
  const __half2 pair = __floats2half2_rn(first, second);
  uint32_t word;
  memcpy(&word, &pair, sizeof(word));
  return word;
}
__device__ __forceinline__ uint32_t PackPair(__nv_bfloat16, float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  uint32_t word;
  memcpy(&word, &pair, sizeof(word));
  return word;
}

// Two D[16][8], side by side, as an A[16][16].
template <typename Stored>
__device__ __forceinline__ FragmentA RoundToA(const FragmentD& left, const FragmentD& right) {
  return {{PackPair(Stored(), left.numbers[0], left.numbers[1]),
           PackPair(Stored(), left.numbers[2], left.numbers[3]),
           PackPair(Stored(), right.numbers[0], right.numbers[1]),
           PackPair(Stored(), right.numbers[2], right.numbers[3])}};
}

// 2^x in one instruction, to 22 bits; 0 below 2^-126, for which exp2f() takes four.
__device__ __forceinline__ float FastExp2(float x) {
  float power;
  KVEC_EX2(power, x);
  return power;
}

// d += a · b.
template <typename Stored>
__device__ __forceinline__ void MultiplyAdd(FragmentD& d, const FragmentA& a, const FragmentB& b) {
  if constexpr (std::is_same_v<Stored, __half>) {
    KVEC_MMA_F16(d.numbers, a.words, b.words);
  } else {
    KVEC_MMA_BF16(d.numbers, a.words, b.words);
  }
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_TENSOR_CORE_H_
