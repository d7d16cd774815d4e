#ifndef KVEC_TESTS_KERNELS_CUDA_FP8_VALUES_H_
#define KVEC_TESTS_KERNELS_CUDA_FP8_VALUES_H_

#include <cmath>
#include <cstdint>

namespace kvec::kernels::cuda {

// e4m3: a sign, an exponent of 4 bits, and 3 bits behind the point. Not of the bits of no number.
inline double Fp8ToDouble(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_FP8_VALUES_H_
