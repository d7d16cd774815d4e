#include "kernels/cpu/unsigned_block.h"

#include <cstring>

#include "common/tensor/dequantize.h"
#include "glog/logging.h"

// The layouts are described where common/tensor/dequantize.cc decodes them to floats.

namespace kvec::kernels::cpu {
namespace {

constexpr int kBlocksPerSuperBlock = 8;  // of the K types

float LoadHalf(const uint8_t* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof(half));
  return HalfToFloat(half);
}

void SetScaleAndMin(float scale, float min, UnsignedBlock& out) {
  out.scale[0] = out.scale[1] = scale;
  out.min[0] = out.min[1] = min;
}

// 16 bytes: element j in the low half of byte j, j + 16 in the high half.
void UnpackNibbles(const uint8_t* packed, UnsignedBlock& out) {
  for (int j = 0; j < 16; ++j) {
    out.values[j] = packed[j] & 0x0F;
    out.values[j + 16] = packed[j] >> 4;
  }
}

// Bit j of the four bytes is the fifth bit of element j.
void AddFifthBits(const uint8_t* packed, UnsignedBlock& out) {
  uint32_t bits;
  std::memcpy(&bits, packed, sizeof(bits));
  for (int j = 0; j < kBlockInputs; ++j) out.values[j] |= ((bits >> j) & 1) << 4;
}

void DecodeQ8_0(const uint8_t* block, UnsignedBlock& out) {
  for (int j = 0; j < kBlockInputs; ++j) out.values[j] = block[2 + j] ^ 0x80;  // + 128
  const float scale = LoadHalf(block);
  SetScaleAndMin(scale, -128 * scale, out);
}

// Scale and minimum of sub-block `sub` of Q4_K and Q5_K: 6 bits each, packed into 12 bytes.
void DecodeSubScales(const uint8_t* super_block, int sub, UnsignedBlock& out) {
  const uint8_t* packed = super_block + 4;
  int scale = packed[sub % 4] & 63;
  int min = packed[sub % 4 + 4] & 63;
  if (sub >= 4) {
    scale = (packed[sub + 4] & 0x0F) | ((packed[sub - 4] >> 6) << 4);
    min = (packed[sub + 4] >> 4) | ((packed[sub] >> 6) << 4);
  }
  SetScaleAndMin(LoadHalf(super_block) * static_cast<float>(scale),
                 -LoadHalf(super_block + 2) * static_cast<float>(min), out);
}

void DecodeSubNibbles(const uint8_t* nibbles, int sub, UnsignedBlock& out) {
  const uint8_t* run = nibbles + (sub / 2) * kBlockInputs;
  const int shift = (sub % 2) * 4;
  for (int j = 0; j < kBlockInputs; ++j) out.values[j] = (run[j] >> shift) & 0x0F;
}

void DecodeQ4_K(const uint8_t* super_block, int sub, UnsignedBlock& out) {
  DecodeSubScales(super_block, sub, out);
  DecodeSubNibbles(super_block + 16, sub, out);
}

void DecodeQ5_K(const uint8_t* super_block, int sub, UnsignedBlock& out) {
  DecodeSubScales(super_block, sub, out);
  DecodeSubNibbles(super_block + 48, sub, out);
  const uint8_t* high = super_block + 16;
  for (int j = 0; j < kBlockInputs; ++j) out.values[j] |= ((high[j] >> sub) & 1) << 4;
}

void DecodeQ6_K(const uint8_t* super_block, int sub, UnsignedBlock& out) {
  const int half = sub / 4;
  const int quarter = sub % 4;
  const uint8_t* low = super_block + half * 64 + (quarter % 2) * kBlockInputs;
  const uint8_t* high = super_block + 128 + half * 32;
  const int low_shift = (quarter / 2) * 4;
  for (int j = 0; j < kBlockInputs; ++j) {
    out.values[j] = ((low[j] >> low_shift) & 0x0F) | (((high[j] >> (2 * quarter)) & 3) << 4);
  }
  const uint8_t* scales = super_block + 192 + sub * 2;
  for (int i = 0; i < 2; ++i) {
    out.scale[i] = LoadHalf(super_block + 208) * static_cast<float>(static_cast<int8_t>(scales[i]));
    out.min[i] = -32 * out.scale[i];
  }
}

}  // namespace

UnsignedTraits GetUnsignedTraits(TensorType type) {
  switch (type) {
    case TensorType::kQ4_0:
      return {.bits = 4, .scale_inputs = 32, .zero_point = 8};
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
      return {.bits = 4, .scale_inputs = 32, .zero_point = 0};
    case TensorType::kQ5_0:
      return {.bits = 5, .scale_inputs = 32, .zero_point = 16};
    case TensorType::kQ5_1:
    case TensorType::kQ5_K:
      return {.bits = 5, .scale_inputs = 32, .zero_point = 0};
    case TensorType::kQ6_K:
      return {.bits = 6, .scale_inputs = 16, .zero_point = 32};
    case TensorType::kQ8_0:
      return {.bits = 8, .scale_inputs = 32, .zero_point = 128};
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      break;
  }
  LOG(FATAL) << GetTraits(type).name << " is not quantised";
}

void DecodeUnsignedBlock(TensorType type, const uint8_t* row, int block, UnsignedBlock& out) {
  const TensorTypeTraits& traits = GetTraits(type);
  const int blocks_per_unit = traits.block_elements / kBlockInputs;
  const uint8_t* unit = row + static_cast<size_t>(block / blocks_per_unit) * traits.block_bytes;
  const int sub = block % kBlocksPerSuperBlock;  // used by the K types only
  switch (type) {
    case TensorType::kQ4_0:
      UnpackNibbles(unit + 2, out);
      return SetScaleAndMin(LoadHalf(unit), -8 * LoadHalf(unit), out);
    case TensorType::kQ4_1:
      UnpackNibbles(unit + 4, out);
      return SetScaleAndMin(LoadHalf(unit), LoadHalf(unit + 2), out);
    case TensorType::kQ5_0:
      UnpackNibbles(unit + 6, out);
      AddFifthBits(unit + 2, out);
      return SetScaleAndMin(LoadHalf(unit), -16 * LoadHalf(unit), out);
    case TensorType::kQ5_1:
      UnpackNibbles(unit + 8, out);
      AddFifthBits(unit + 4, out);
      return SetScaleAndMin(LoadHalf(unit), LoadHalf(unit + 2), out);
    case TensorType::kQ8_0:
      return DecodeQ8_0(unit, out);
    case TensorType::kQ4_K:
      return DecodeQ4_K(unit, sub, out);
    case TensorType::kQ5_K:
      return DecodeQ5_K(unit, sub, out);
    case TensorType::kQ6_K:
      return DecodeQ6_K(unit, sub, out);
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      LOG(FATAL) << traits.name << " is not quantised";
  }
}

}  // namespace kvec::kernels::cpu
