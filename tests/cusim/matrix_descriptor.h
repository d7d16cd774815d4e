#ifndef KVEC_TESTS_CUSIM_MATRIX_DESCRIPTOR_H_
#define KVEC_TESTS_CUSIM_MATRIX_DESCRIPTOR_H_

#include <cstdint>

namespace kvec::cusim {

// How wgmma.mma_async finds an A or B of 16-bit numbers in shared memory. From the PTX manual's
// chapter "Asynchronous Warpgroup Level Matrix Shared Memory Layout", and not from what the kernels
// do: "Matrix Descriptor Format" has the bits, "Strides" what the two offsets are, the table
// "swizzling mode, leading dimension, swizzle-atom layout" and the figures of its layouts the rest.
class MatrixDescriptor {
 public:
  explicit MatrixDescriptor(uint64_t bits) : bits_(bits) {}

  uint32_t address() const { return Bits(0, 14) << 4; }
  uint32_t leading_bytes() const { return Bits(16, 14) << 4; }
  uint32_t stride_bytes() const { return Bits(32, 14) << 4; }
  uint32_t base_offset() const { return Bits(49, 3); }

  // Bytes of a row of the swizzle's pattern; 16: there is no swizzle.
  uint32_t swizzle_bytes() const {
    constexpr uint32_t kOfMode[] = {16, 128, 64, 32};
    return kOfMode[Bits(62, 2)];
  }
  bool has_unknown_bits() const {
    return (Bits(14, 2) | Bits(30, 2) | Bits(46, 3) | Bits(52, 10)) != 0;
  }

  // Where the number lies that is `mn` along M or N and `k` along K.
  //
  // Numbers come in units of 16 bytes. Along K (K-major) a row of the pattern is so many units of
  // one mn, and 8 rows are 8 neighbours along mn; the next 8 are a stride away. Without a swizzle
  // the next unit along K is a leading offset away. Along M or N (MN-major) a row of the pattern is
  // units of one k, and 8 rows are 8 neighbours along K, of which the next are a stride away; what
  // is behind the row along mn is a leading offset away. Without a swizzle the two change places.
  uint32_t AddressOf(bool along_k, uint32_t mn, uint32_t k) const {
    const uint32_t in_row = along_k ? k : mn;  // the one that runs along the pattern's rows
    const uint32_t across = along_k ? mn : k;  // the one that has a row for each
    const uint32_t row_numbers = swizzle_bytes() / 2;
    uint32_t offset = across % 8 * swizzle_bytes() + in_row % row_numbers * 2;
    const bool swaps = swizzle_bytes() == 16 && !along_k;
    offset += across / 8 * (swaps ? leading_bytes() : stride_bytes());
    offset += in_row / row_numbers * (swaps ? stride_bytes() : leading_bytes());
    return Swizzled(address() + offset);
  }

 private:
  uint32_t Bits(int first, int count) const {
    return static_cast<uint32_t>(bits_ >> first & ((uint64_t{1} << count) - 1));
  }

  // Of a pattern's 16-byte units those of row r, of 128 bytes, are exchanged by the last bits of r:
  // 3 of them in 128 bytes, 2 in 64, 1 in 32. Rows count from the pattern's begin, which
  // base_offset() is the row of.
  uint32_t Swizzled(uint32_t address) const {
    const uint32_t row = (address >> 7) - base_offset();
    const uint32_t mask = swizzle_bytes() / 16 - 1;
    return address ^ (row & mask) << 4;
  }

  uint64_t bits_;
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_MATRIX_DESCRIPTOR_H_
