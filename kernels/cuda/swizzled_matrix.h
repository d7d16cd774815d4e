#ifndef KVEC_KERNELS_CUDA_SWIZZLED_MATRIX_H_
#define KVEC_KERNELS_CUDA_SWIZZLED_MATRIX_H_

#include <cuda_runtime.h>

#include <cstdint>

namespace kvec::kernels::cuda {

inline constexpr int kDepth = 16;  // columns of a product's A, rows of its B

// Where a matrix [kRows][kCols] of 16-bit numbers lies for products in the 128-byte swizzle: blocks
// of 64 columns one after another, of each block row after row of 128 bytes, and of row r the
// 16-byte vector v in place v ^ (r % 8). PTX manual, "Shared Memory Matrix Layout" of wgmma: the
// swizzle's pattern is 8 rows, which begin at multiples of 1,024 bytes.
//
// Products take such a matrix along its rows (K-major: A, or B transposed) or across (MN-major: B),
// which is the same memory.
template <int kRows, int kCols>
struct SwizzledMatrix {
  static constexpr int kVectorNumbers = 8;
  static constexpr int kRowBytes = 128;  // of a block
  static constexpr int kPatternBytes = 8 * kRowBytes;
  static constexpr int kBlockCols = kRowBytes / 2;
  static constexpr int kBlockBytes = kRows * kRowBytes;
  static constexpr int kBytes = kCols / kBlockCols * kBlockBytes;
  static_assert(kRows % 8 == 0 && kCols % kBlockCols == 0);

  // Of the vector-th 8 numbers of a row.
  __host__ __device__ static constexpr int Offset(int row, int vector) {
    return vector / 8 * kBlockBytes + row * kRowBytes + ((vector % 8) ^ (row % 8)) * 16;
  }

  // Rows from `row` on, a multiple of 8, and kDepth columns from `col` on, as a K-major A or B. The
  // leading offset means nothing for swizzled K-major matrices.
  __host__ __device__ static constexpr uint64_t AlongRows(uint32_t address, int row, int col) {
    return Descriptor(address + static_cast<uint32_t>(col / kBlockCols * kBlockBytes +
                                                      row * kRowBytes + col % kBlockCols * 2),
                      0, kPatternBytes);
  }

  // kDepth rows from `row` on, a multiple of 8, and all columns, as an MN-major B.
  __host__ __device__ static constexpr uint64_t AcrossRows(uint32_t address, int row) {
    return Descriptor(address + static_cast<uint32_t>(row * kRowBytes), kBlockBytes, kPatternBytes);
  }

 private:
  // PTX manual, "Matrix Descriptor Format" of wgmma: bits 0 … 13 the address, 16 … 29 the leading
  // dimension's offset (MN-major: to the next 64 columns), 32 … 45 the stride dimension's (to the
  // next 8 rows), all without their last 4 bits; 49 … 51 where the pattern begins (0: at a multiple
  // of 1,024 bytes); 62 … 63 the swizzle (1: of 128 bytes).
  __host__ __device__ static constexpr uint64_t Descriptor(uint32_t address, uint32_t leading_bytes,
                                                           uint32_t stride_bytes) {
    return uint64_t{Encoded(address)} | uint64_t{Encoded(leading_bytes)} << 16 |
           uint64_t{Encoded(stride_bytes)} << 32 | uint64_t{1} << 62;
  }
  __host__ __device__ static constexpr uint32_t Encoded(uint32_t bytes) {
    return (bytes & 0x3FFFF) >> 4;
  }
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_SWIZZLED_MATRIX_H_
