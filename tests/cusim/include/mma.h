#ifndef KVEC_TESTS_CUSIM_INCLUDE_MMA_H_
#define KVEC_TESTS_CUSIM_INCLUDE_MMA_H_

// Found before the toolkit's header of this name: warp matrix products for the simulator. Which
// lane holds what of a fragment is nobody's business, so every lane holds all of it. Loads and
// stores wait for the whole warp, as the real ones do.

#include "tests/cusim/include/cuda_runtime.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

// Only what kernels/cuda uses: 16 in every direction.
template <typename Use, int kM, int kN, int kK, typename T, typename Layout = void>
struct fragment {
  static_assert(kM == 16 && kN == 16 && kK == 16);
  float values[16][16];  // [row][col]
};

namespace internal {

inline float ToFloat(float value) { return value; }
inline float ToFloat(__half value) { return __half2float(value); }
inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename Fragment, typename T>
void Load(Fragment& to, const T* from, unsigned stride, bool by_rows) {
  __syncwarp();
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned col = 0; col < 16; ++col) {
      to.values[row][col] = ToFloat(from[by_rows ? row * stride + col : col * stride + row]);
    }
  }
  __syncwarp();
}

}  // namespace internal

template <typename Use, typename T>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, row_major>& to, const T* from, unsigned stride) {
  internal::Load(to, from, stride, true);
}
template <typename Use, typename T>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, col_major>& to, const T* from, unsigned stride) {
  internal::Load(to, from, stride, false);
}
inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, float>& to, const float* from,
                             unsigned stride, layout_t layout) {
  internal::Load(to, from, stride, layout == mem_row_major);
}

inline void fill_fragment(fragment<accumulator, 16, 16, 16, float>& to, float value) {
  for (auto& row : to.values) {
    for (float& number : row) number = value;
  }
}

// d = a · b + c; d may be c.
template <typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d,
              const fragment<matrix_a, 16, 16, 16, T, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, T, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, float>& c) {
  __syncwarp();
  for (int row = 0; row < 16; ++row) {
    for (int col = 0; col < 16; ++col) {
      float sum = c.values[row][col];
      for (int k = 0; k < 16; ++k) sum += a.values[row][k] * b.values[k][col];
      d.values[row][col] = sum;
    }
  }
}

// Each lane stores its eight numbers.
inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& from,
                              unsigned stride, layout_t layout) {
  __syncwarp();
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = lane * 8; i < lane * 8 + 8; ++i) {
    const unsigned row = i / 16;
    const unsigned col = i % 16;
    to[layout == mem_row_major ? row * stride + col : col * stride + row] = from.values[row][col];
  }
  __syncwarp();
}

}  // namespace nvcuda::wmma

#endif  // KVEC_TESTS_CUSIM_INCLUDE_MMA_H_
