// Part of each matmul_kernels_….cc. Nameless, so that every instruction set compiles its own copy:
// what the linker merged could use instructions that a processor lacks.
#ifndef KVEC_KERNELS_CPU_ACTIVATION_BLOCK_INL_H_
#define KVEC_KERNELS_CPU_ACTIVATION_BLOCK_INL_H_

#include "kernels/cpu/matmul_kernels.h"

namespace kvec::kernels::cpu {
namespace {

// Blocks of tinier numbers become zero: the inverse of their scale could overflow.
constexpr float kSmallestMaximum = 1e-30f;

struct BlockScale {
  float scale;    // of the rounded values
  float inverse;  // by which activations are multiplied before they are rounded
};

// The magnitude that a block's largest is brought to: 127 · 256, so that the high byte fits.
constexpr float kLargestValue = 32512.0f;

inline BlockScale ScaleOf(float maximum) {
  if (maximum < kSmallestMaximum) return {0, 0};
  return {maximum * (1.0f / kLargestValue), kLargestValue / maximum};
}

// `low_sum` and `high_sum` are of the first and of the last 16 values.
inline void SetScaleAndSums(float scale, int low_sum, int high_sum, ActivationBlock& block) {
  block.scale = scale;
  block.sum = scale * static_cast<float>(low_sum + high_sum);
  block.half_sums[0] = scale * static_cast<float>(low_sum);
  block.half_sums[1] = scale * static_cast<float>(high_sum);
}

}  // namespace
}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_ACTIVATION_BLOCK_INL_H_
