#ifndef KVEC_TESTS_CUSIM_PTX_H_
#define KVEC_TESTS_CUSIM_PTX_H_

// The PTX instructions of kernels/cuda/tensor_core.h, as the PTX manual describes them. Included by
// include/cuda_runtime.h.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/cusim/call_site.h"
#include "tests/cusim/device_calls.h"

namespace kvec::cusim {

// ldmatrix.x4: four matrices of 8x8 16-bit numbers. Lane 8i + r points at matrix i's row r. Lane l
// gets of each the numbers (l / 4, 2 (l % 4)) and its right neighbour, or of the transposed ones.
inline void LoadMatrices(uint32_t (&to)[4], const void* from, bool transposed, CallSite at) {
  const uint64_t* const rows = AllLanes(reinterpret_cast<uintptr_t>(from), at);
  const int row = LaneId() / 4;
  const int col = LaneId() % 4 * 2;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const int r = transposed ? col + i : row;
      const int c = transposed ? row : col + i;
      pair[i] = reinterpret_cast<const uint16_t*>(rows[matrix * 8 + r])[c];
    }
    std::memcpy(&to[matrix], pair, sizeof(pair));
  }
}

// What a lane brings to a product, widened.
struct MmaFactors {
  float a[4][2];
  float b[2][2];
};

template <typename T>
void Widen(uint32_t word, float (&to)[2]) {
  T pair[2];
  std::memcpy(static_cast<void*>(pair), &word, sizeof(word));
  for (int i = 0; i < 2; ++i) to[i] = static_cast<float>(pair[i]);
}

// mma.m16n8k16: d[16][8] += a[16][16] · b[16][8]. With g = lane / 4 and t = lane % 4 a lane holds
// of a: rows g and g + 8, columns 2t and 2t + 1, then the same 8 columns further; of b: rows 2t and
// 2t + 1, then 8 further, of column g; of d: rows g and g + 8, columns 2t and 2t + 1.
template <typename T>
void MultiplyMatrices(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CallSite at) {
  MmaFactors own;
  for (int i = 0; i < 4; ++i) Widen<T>(a[i], own.a[i]);
  for (int i = 0; i < 2; ++i) Widen<T>(b[i], own.b[i]);
  const uint64_t* const lanes = AllLanes(reinterpret_cast<uintptr_t>(&own), at);
  const auto of_lane = [lanes](int lane) -> const MmaFactors& {
    return *reinterpret_cast<const MmaFactors*>(lanes[lane]);
  };
  const int first_of_row = LaneId() / 4 * 4;
  for (int i = 0; i < 4; ++i) {
    const int lower_row = i / 2;
    const int col = LaneId() % 4 * 2 + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; ++k) {
      sum += of_lane(first_of_row + k % 8 / 2).a[k / 8 * 2 + lower_row][k % 2] *
             of_lane(col * 4 + k % 8 / 2).b[k / 8][k % 2];
    }
    d[i] = sum;
  }
  SyncWarp(~0u, at);  // the others may still read
}

// ex2.approx.ftz.
inline float Exp2(float x) { return x < -126 ? 0.0f : std::exp2(x); }

}  // namespace kvec::cusim

#define KVEC_LDMATRIX(to, from) \
  ::kvec::cusim::LoadMatrices(to, from, false, ::kvec::cusim::CallSite::Current())
#define KVEC_LDMATRIX_TRANSPOSED(to, from) \
  ::kvec::cusim::LoadMatrices(to, from, true, ::kvec::cusim::CallSite::Current())
#define KVEC_EX2(to, from) (to) = ::kvec::cusim::Exp2(from)
#define KVEC_MMA_F16(d, a, b) \
  ::kvec::cusim::MultiplyMatrices<__half>(d, a, b, ::kvec::cusim::CallSite::Current())
#define KVEC_MMA_BF16(d, a, b) \
  ::kvec::cusim::MultiplyMatrices<__nv_bfloat16>(d, a, b, ::kvec::cusim::CallSite::Current())

#endif  // KVEC_TESTS_CUSIM_PTX_H_
