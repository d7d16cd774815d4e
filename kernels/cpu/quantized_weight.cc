#include "kernels/cpu/quantized_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "kernels/cpu/unsigned_block.h"

namespace kvec::kernels::cpu {
namespace {

constexpr size_t kCacheLineBytes = 64;

PackedFormat FormatOf(TensorType type) {
  const UnsignedTraits traits = GetUnsignedTraits(type);
  return {.bits = traits.bits == 4 ? 4 : 8,
          .scale_inputs = traits.scale_inputs,
          .has_mins = traits.zero_point == 0,
          .min_per_scale = static_cast<float>(-traits.zero_point)};
}

const uint8_t* RowOf(const WeightSource& source, int row) {
  return source.data.data() + RowBytes(source.type, source.in_features) * row;
}

// The power of two by which scales and mins are multiplied before they become float16: it brings
// the largest to [2^14, 2^15). Infinite ones, of a broken file, do not count.
int ScaleExponent(const WeightSource& source, bool has_mins) {
  float largest = 0;
  UnsignedBlock block;
  for (int row = 0; row < source.num_rows; ++row) {
    for (int i = 0; i < source.in_features / kBlockInputs; ++i) {
      DecodeUnsignedBlock(source.type, RowOf(source, row), i, block);
      for (float value : {block.scale[0], block.scale[1], has_mins ? block.min[0] : 0}) {
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
      }
    }
  }
  if (largest == 0) return 0;
  int exponent;
  std::frexp(largest, &exponent);  // largest in [2^(exponent - 1), 2^exponent)
  return 15 - exponent;
}

}  // namespace

absl::StatusOr<QuantizedWeight> QuantizedWeight::Pack(const WeightSource& source) {
  QuantizedWeight weight;
  weight.out_features_ = source.num_rows;
  weight.in_features_ = source.in_features;
  weight.format_ = FormatOf(source.type);
  weight.multiplier_ = std::ldexp(1.0f, -ScaleExponent(source, weight.format_.has_mins));
  const size_t tile_bytes =
      weight.value_bytes() + weight.num_scales() * sizeof(uint16_t) * (weight.format_.has_mins + 1);
  weight.tile_bytes_ = (tile_bytes + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes;
  KVEC_ASSIGN_OR_RETURN(weight.data_,
                        AlignedBuffer::Allocate(weight.tile_bytes_ * weight.num_tiles()));
  for (int tile = 0; tile < weight.num_tiles(); ++tile) weight.PackTile(source, tile);
  return weight;
}

PackedTile QuantizedWeight::Tile(int index, int block) const {
  const uint8_t* tile = data_.data() + tile_bytes_ * index;
  const size_t scale_offset = size_t{kTileFeatures} * block * (kBlockInputs / format_.scale_inputs);
  const auto* scales = reinterpret_cast<const uint16_t*>(tile + value_bytes());
  return {.values = tile + size_t{kTileFeatures} * kBlockInputs * block * format_.bits / 8,
          .scales = scales + scale_offset,
          .mins = format_.has_mins ? scales + num_scales() + scale_offset : nullptr};
}

void QuantizedWeight::PackTile(const WeightSource& source, int tile) {
  uint8_t* values = data_.data() + tile_bytes_ * tile;
  std::memset(values, 0,
              tile_bytes_);  // features beyond the last one, and values: nibbles are or-ed
  auto* scales = reinterpret_cast<uint16_t*>(values + value_bytes());
  uint16_t* mins = scales + num_scales();
  const int num_features = std::min(kTileFeatures, out_features_ - tile * kTileFeatures);
  const int parts = kBlockInputs / format_.scale_inputs;
  UnsignedBlock block;
  for (int feature = 0; feature < num_features; ++feature) {
    const uint8_t* row = RowOf(source, tile * kTileFeatures + feature);
    for (int i = 0; i < num_blocks(); ++i) {
      DecodeUnsignedBlock(source.type, row, i, block);
      for (int input = 0; input < kBlockInputs; ++input) {
        const int word = (i * kBlockInputs + input) / 4;
        const int line = format_.bits == 4 ? word / 2 : word;
        const int shift = format_.bits == 4 ? (word % 2) * 4 : 0;
        uint8_t& packed = values[(line * kTileFeatures + feature) * 4 + input % 4];
        packed = static_cast<uint8_t>(packed | (block.values[input] << shift));
      }
      for (int part = 0; part < parts; ++part) {
        const int index = (i * parts + part) * kTileFeatures + feature;
        scales[index] = FloatToHalf(block.scale[part] / multiplier_);
        if (format_.has_mins) mins[index] = FloatToHalf(block.min[part] / multiplier_);
      }
    }
  }
}

}  // namespace kvec::kernels::cpu
