#ifndef KVEC_TESTS_CUSIM_INCLUDE_MMA_H_
#define KVEC_TESTS_CUSIM_INCLUDE_MMA_H_

// Found before the toolkit's header of this name: warp matrix products for the simulator. A lane
// holds 8 numbers of a result, half a row, and of the factors what it needs for them. CUDA does not
// say which lane holds what: here neighbouring lanes hold rows far apart, so that nobody guesses
// it. Loads and stores wait for the whole warp, as the real ones do.

#include <type_traits>

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
struct fragment;

template <typename T, typename Layout>
struct fragment<matrix_a, 16, 16, 16, T, Layout> {
  float values[16];  // of the lane's row
};

template <typename T, typename Layout>
struct fragment<matrix_b, 16, 16, 16, T, Layout> {
  float values[16][8];  // [row][of the lane's columns]
};

template <>
struct fragment<accumulator, 16, 16, 16, float> {
  static constexpr int num_elements = 8;
  float x[num_elements];  // of the lane's row, in its columns
};

namespace internal {

inline float ToFloat(float value) { return value; }
inline float ToFloat(__half value) { return __half2float(value); }
inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }

// The numbers of a result that the lane holds: row, and the first of 8 columns.
inline unsigned Place() { return static_cast<unsigned>(kvec::cusim::LaneId()) * 11 % 32; }
inline unsigned Row() { return Place() % 16; }
inline unsigned FirstCol() { return Place() / 16 * 8; }

}  // namespace internal

template <typename T>
void load_matrix_sync(fragment<matrix_a, 16, 16, 16, T, row_major>& to, const T* from,
                      unsigned stride) {
  __syncwarp();
  for (unsigned k = 0; k < 16; ++k) {
    to.values[k] = internal::ToFloat(from[internal::Row() * stride + k]);
  }
  __syncwarp();
}

template <typename T, typename Layout>
void load_matrix_sync(fragment<matrix_b, 16, 16, 16, T, Layout>& to, const T* from,
                      unsigned stride) {
  __syncwarp();
  for (unsigned k = 0; k < 16; ++k) {
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned col = internal::FirstCol() + i;
      to.values[k][i] = internal::ToFloat(
          from[std::is_same_v<Layout, row_major> ? k * stride + col : col * stride + k]);
    }
  }
  __syncwarp();
}

inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, float>& to, const float* from,
                             unsigned stride, layout_t layout) {
  __syncwarp();
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = internal::Row();
    const unsigned col = internal::FirstCol() + i;
    to.x[i] = from[layout == mem_row_major ? row * stride + col : col * stride + row];
  }
  __syncwarp();
}

inline void fill_fragment(fragment<accumulator, 16, 16, 16, float>& to, float value) {
  for (float& number : to.x) number = value;
}

// d = a · b + c; d may be c.
template <typename T, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d,
              const fragment<matrix_a, 16, 16, 16, T, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, T, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, float>& c) {
  __syncwarp();
  for (int i = 0; i < 8; ++i) {
    float sum = c.x[i];
    for (int k = 0; k < 16; ++k) sum += a.values[k] * b.values[k][i];
    d.x[i] = sum;
  }
}

inline void store_matrix_sync(float* to, const fragment<accumulator, 16, 16, 16, float>& from,
                              unsigned stride, layout_t layout) {
  __syncwarp();
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = internal::Row();
    const unsigned col = internal::FirstCol() + i;
    to[layout == mem_row_major ? row * stride + col : col * stride + row] = from.x[i];
  }
  __syncwarp();
}

}  // namespace nvcuda::wmma

#endif  // KVEC_TESTS_CUSIM_INCLUDE_MMA_H_
