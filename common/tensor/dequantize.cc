#include "common/tensor/dequantize.h"

#include <cstring>

#include "common/logging.h"

// The layouts and the order of the arithmetic are those of ggml's dequantize_row_… functions, so
// that results are equal bit by bit. This file is compiled without contraction to FMA.

namespace kvec {
namespace {

constexpr int kSmallBlock = 32;

template <typename T>
T LoadAs(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* bytes) { return HalfToFloat(LoadAs<uint16_t>(bytes)); }

// The dense types: converts one number after the other.
template <typename Stored, typename Convert>
void DecodeDense(absl::Span<const uint8_t> data, absl::Span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = convert(LoadAs<Stored>(data.data() + i * sizeof(Stored)));
  }
}

// half scale; 16 bytes of nibbles: element j in the low half of byte j, j + 16 in the high half.
void DecodeQ4_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* quants = block + 2;
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    out[j] = static_cast<float>((quants[j] & 0x0F) - 8) * scale;
    out[j + kSmallBlock / 2] = static_cast<float>((quants[j] >> 4) - 8) * scale;
  }
}

// half scale, half minimum; nibbles as in Q4_0.
void DecodeQ4_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  const uint8_t* quants = block + 4;
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    out[j] = static_cast<float>(quants[j] & 0x0F) * scale + min;
    out[j + kSmallBlock / 2] = static_cast<float>(quants[j] >> 4) * scale + min;
  }
}

// Element j's five bits: the low four as in Q4_0, the highest is bit j of `high`.
struct FiveBits {
  const uint8_t* low;
  uint32_t high;

  int First(int j) const { return (low[j] & 0x0F) | static_cast<int>(((high >> j) & 1) << 4); }
  int Second(int j) const {
    return (low[j] >> 4) | static_cast<int>(((high >> (j + kSmallBlock / 2)) & 1) << 4);
  }
};

// half scale; 4 bytes of high bits; 16 bytes of nibbles.
void DecodeQ5_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const FiveBits quants{block + 6, LoadAs<uint32_t>(block + 2)};
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    out[j] = static_cast<float>(quants.First(j) - 16) * scale;
    out[j + kSmallBlock / 2] = static_cast<float>(quants.Second(j) - 16) * scale;
  }
}

// half scale, half minimum; 4 bytes of high bits; 16 bytes of nibbles.
void DecodeQ5_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  const FiveBits quants{block + 8, LoadAs<uint32_t>(block + 4)};
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    out[j] = static_cast<float>(quants.First(j)) * scale + min;
    out[j + kSmallBlock / 2] = static_cast<float>(quants.Second(j)) * scale + min;
  }
}

// half scale; 32 signed bytes.
void DecodeQ8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  for (int j = 0; j < kSmallBlock; ++j) {
    out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * scale;
  }
}

struct ScaleAndMin {
  float scale;
  float min;
};

// Unpacks the 6-bit scale and minimum of sub-block `index` (0 … 7) from a K block's 12 bytes: those
// of the first four lie in the low six bits of bytes 0 … 7; the others have their low nibbles in
// bytes 8 … 11 and their upper two bits on top of the first four's.
ScaleAndMin UnpackScaleAndMin(const uint8_t* packed, int index) {
  int scale = packed[index] & 63;
  int min = packed[index + 4] & 63;
  if (index >= 4) {
    scale = (packed[index + 4] & 0x0F) | ((packed[index - 4] >> 6) << 4);
    min = (packed[index + 4] >> 4) | ((packed[index] >> 6) << 4);
  }
  return {static_cast<float>(scale), static_cast<float>(min)};
}

// half scale, half minimum; 12 bytes of sub-block scales; 128 bytes of nibbles: each run of 32
// bytes holds sub-block 2 i in its low halves and 2 i + 1 in its high halves.
void DecodeQ4K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  const uint8_t* quants = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleAndMin packed = UnpackScaleAndMin(block + 4, sub);
    const float sub_scale = scale * packed.scale;
    const float sub_min = min * packed.min;
    const uint8_t* run = quants + (sub / 2) * 32;
    const int shift = (sub % 2) * 4;
    for (int j = 0; j < 32; ++j) {
      out[sub * 32 + j] = sub_scale * static_cast<float>((run[j] >> shift) & 0x0F) - sub_min;
    }
  }
}

// As Q4_K, with 32 bytes before the nibbles whose byte j holds the fifth bits of element j of all
// eight sub-blocks.
void DecodeQ5K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float min = LoadHalf(block + 2);
  const uint8_t* high = block + 16;
  const uint8_t* quants = block + 48;
  for (int sub = 0; sub < 8; ++sub) {
    const ScaleAndMin packed = UnpackScaleAndMin(block + 4, sub);
    const float sub_scale = scale * packed.scale;
    const float sub_min = min * packed.min;
    const uint8_t* run = quants + (sub / 2) * 32;
    const int shift = (sub % 2) * 4;
    for (int j = 0; j < 32; ++j) {
      const int quant = ((run[j] >> shift) & 0x0F) | (((high[j] >> sub) & 1) << 4);
      out[sub * 32 + j] = sub_scale * static_cast<float>(quant) - sub_min;
    }
  }
}

// 128 bytes of low nibbles; 64 bytes of upper bit pairs; 16 signed scales, one per 16 elements;
// half scale. Each half block of 128 elements has 64 bytes of nibbles and 32 of pairs.
void DecodeQ6K(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    const uint8_t* scales = block + 192 + half * 8;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const uint8_t* run = low + (quarter % 2) * 32;
      const int low_shift = (quarter / 2) * 4;
      float* target = out + half * 128 + quarter * 32;
      for (int j = 0; j < 32; ++j) {
        const int quant =
            (((run[j] >> low_shift) & 0x0F) | (((high[j] >> (2 * quarter)) & 3) << 4)) - 32;
        const auto sub_scale = static_cast<int8_t>(scales[2 * quarter + j / 16]);
        target[j] = scale * static_cast<float>(sub_scale) * static_cast<float>(quant);
      }
    }
  }
}

// The decoder is a template argument so that it is inlined into the loop.
template <void (*kDecode)(const uint8_t*, float*)>
void DecodeBlocks(TensorType type, absl::Span<const uint8_t> data, absl::Span<float> out) {
  const TensorTypeTraits& traits = GetTraits(type);
  const uint8_t* block = data.data();
  for (size_t i = 0; i < out.size(); i += traits.block_elements, block += traits.block_bytes) {
    kDecode(block, out.data() + i);
  }
}

}  // namespace

void Dequantize(TensorType type, absl::Span<const uint8_t> data, absl::Span<float> out) {
  CHECK_EQ(out.size() % GetTraits(type).block_elements, 0u);
  CHECK_EQ(data.size(), RowBytes(type, static_cast<int64_t>(out.size())));
  if (out.empty()) return;
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out.data(), data.data(), data.size());
      return;
    case TensorType::kF16:
      return DecodeDense<uint16_t>(data, out, HalfToFloat);
    case TensorType::kBF16:
      return DecodeDense<uint16_t>(data, out, BFloat16ToFloat);
    case TensorType::kQ4_0:
      return DecodeBlocks<DecodeQ4_0>(type, data, out);
    case TensorType::kQ4_1:
      return DecodeBlocks<DecodeQ4_1>(type, data, out);
    case TensorType::kQ5_0:
      return DecodeBlocks<DecodeQ5_0>(type, data, out);
    case TensorType::kQ5_1:
      return DecodeBlocks<DecodeQ5_1>(type, data, out);
    case TensorType::kQ8_0:
      return DecodeBlocks<DecodeQ8_0>(type, data, out);
    case TensorType::kQ4_K:
      return DecodeBlocks<DecodeQ4K>(type, data, out);
    case TensorType::kQ5_K:
      return DecodeBlocks<DecodeQ5K>(type, data, out);
    case TensorType::kQ6_K:
      return DecodeBlocks<DecodeQ6K>(type, data, out);
  }
}

}  // namespace kvec
