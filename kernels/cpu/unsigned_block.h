#ifndef KVEC_KERNELS_CPU_UNSIGNED_BLOCK_H_
#define KVEC_KERNELS_CPU_UNSIGNED_BLOCK_H_

#include <cstdint>

#include "common/tensor/tensor_type.h"

namespace kvec::kernels::cpu {

inline constexpr int kBlockInputs = 32;

// 32 consecutive inputs of one row of a quantised weight, as unsigned numbers:
// weight i = scale[i / 16] · values[i] + min[i / 16].
struct UnsignedBlock {
  uint8_t values[kBlockInputs];
  float scale[2];  // equal but for Q6_K, whose scales each cover 16 inputs
  float min[2];
};

// How a type's numbers look as unsigned ones.
struct UnsignedTraits {
  int bits;          // 4, 5, 6 or 8
  int scale_inputs;  // inputs that share a scale: 32 or 16
  // Symmetric types have min = -zero_point · scale; the others (0) a min of their own.
  int zero_point;
};

// `type` must be quantised.
UnsignedTraits GetUnsignedTraits(TensorType type);

// Decodes inputs 32 · block … 32 · block + 31 of a row, exactly: scales of the K types are products
// of a half and an integer of up to 8 bits, which float32 holds.
void DecodeUnsignedBlock(TensorType type, const uint8_t* row, int block, UnsignedBlock& out);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_UNSIGNED_BLOCK_H_
