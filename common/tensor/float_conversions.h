#ifndef KVEC_COMMON_TENSOR_FLOAT_CONVERSIONS_H_
#define KVEC_COMMON_TENSOR_FLOAT_CONVERSIONS_H_

#include <cstdint>

#include "absl/base/casts.h"

// Conversions between float and the two 16-bit formats, without branches on the value so that loops
// over them vectorise. The half conversions let the FPU renormalise and round (Marat Dukhan's FP16
// method, which ggml uses too): both directions are exact or correctly rounded for all inputs.

namespace kvec {

// Exact.
inline float HalfToFloat(uint16_t half) {
  const uint32_t word = static_cast<uint32_t>(half) << 16;
  const uint32_t sign = word & 0x80000000u;
  const uint32_t magnitude = word << 1;  // exponent in bits 27…31

  // Moves exponent and mantissa into place with the exponent 224 too high, so that 31 (infinity,
  // NaN) becomes 255; the product takes 112 off again and leaves the special values alone.
  const float normal = absl::bit_cast<float>((magnitude >> 4) + (0xE0u << 23)) * 0x1.0p-112f;
  // A subnormal half is mantissa · 2^-24: put the mantissa below 0.5's last bits, subtract 0.5.
  const float subnormal = absl::bit_cast<float>((magnitude >> 17) | (126u << 23)) - 0.5f;

  const bool is_subnormal = magnitude < (1u << 27);
  return absl::bit_cast<float>(sign | absl::bit_cast<uint32_t>(is_subnormal ? subnormal : normal));
}

// Rounds to nearest even; NaN stays NaN.
inline uint16_t FloatToHalf(float value) {
  const uint32_t word = absl::bit_cast<uint32_t>(value);
  const uint32_t sign = word & 0x80000000u;
  const uint32_t magnitude = word << 1;
  if (magnitude > 0xFF000000u) return static_cast<uint16_t>(sign >> 16 | 0x7E00u);  // NaN

  // 2^112 turns what is too large for a half into infinity; 2^-110 takes it back to four times the
  // value, which the bias below expects.
  float base = absl::bit_cast<float>(word & 0x7FFFFFFFu) * 0x1.0p+112f * 0x1.0p-110f;
  // Adding a power of two 2^15 above the value's makes the FPU round it to a half's 10 bits; the
  // lower bound makes subnormals round at 2^-24.
  uint32_t bias = magnitude & 0xFF000000u;
  if (bias < 0x71000000u) bias = 0x71000000u;
  base += absl::bit_cast<float>((bias >> 1) + 0x07800000u);
  const uint32_t rounded = absl::bit_cast<uint32_t>(base);
  const uint32_t exponent = (rounded >> 13) & 0x7C00u;
  const uint32_t mantissa = rounded & 0x0FFFu;  // may carry into the exponent
  return static_cast<uint16_t>((sign >> 16) | (exponent + mantissa));
}

// Exact.
inline float BFloat16ToFloat(uint16_t bits) {
  return absl::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// Rounds to nearest even; NaN stays NaN.
inline uint16_t FloatToBFloat16(float value) {
  const uint32_t word = absl::bit_cast<uint32_t>(value);
  if ((word & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<uint16_t>(word >> 16 | 0x0040u);  // quiet NaN
  }
  return static_cast<uint16_t>((word + 0x7FFFu + ((word >> 16) & 1)) >> 16);
}

}  // namespace kvec

#endif  // KVEC_COMMON_TENSOR_FLOAT_CONVERSIONS_H_
