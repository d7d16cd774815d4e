// Compiled for AVX2, FMA and F16C. Only code of this file may be inlined here: an inline function
// of a library, compiled with these flags, could be the one the linker keeps for every processor.
#include <immintrin.h>

#include "kernels/cpu/activation_block-inl.h"
#include "kernels/cpu/matmul_kernels.h"

namespace kvec::kernels::cpu {
namespace {

constexpr int kLineBytes = 64;
__m256i LoadBytes(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

void StoreBytes(uint8_t* bytes, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), value);
}

float ReduceMax(__m256 v) {
  __m128 max = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  max = _mm_max_ps(max, _mm_movehl_ps(max, max));
  return _mm_cvtss_f32(_mm_max_ss(max, _mm_movehdup_ps(max)));
}

int ReduceAdd(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1)));
}

void Quantize(const float* x, int num_blocks, ActivationBlock* out) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  for (int block = 0; block < num_blocks; ++block, x += 32, ++out) {
    __m256 inputs[4];
    for (int i = 0; i < 4; ++i) inputs[i] = _mm256_loadu_ps(x + i * 8);
    __m256 maxima = _mm256_andnot_ps(sign, inputs[0]);
    for (int i = 1; i < 4; ++i) maxima = _mm256_max_ps(maxima, _mm256_andnot_ps(sign, inputs[i]));
    const BlockScale scale = ScaleOf(ReduceMax(maxima));
    const __m256 inverse = _mm256_set1_ps(scale.inverse);
    __m256i values[4];
    for (int i = 0; i < 4; ++i) {
      values[i] = _mm256_cvtps_epi32(_mm256_mul_ps(inputs[i], inverse));
    }
    for (int i = 0; i < 2; ++i) {
      // Packing works within 128-bit lanes: 0 … 3 and 8 … 11 of 16, then the others.
      const __m256i packed = _mm256_packs_epi32(values[2 * i], values[2 * i + 1]);
      const __m256i ordered = _mm256_permute4x64_epi64(packed, 0xD8);
      // Of every four inputs 0, 2, 1, 3.
      const __m256i swapped =
          _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(ordered, 0xD8), 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->numbers + i * 32), swapped);
    }
    SetScaleAndSums(scale.scale, ReduceAdd(_mm256_add_epi32(values[0], values[1])),
                    ReduceAdd(_mm256_add_epi32(values[2], values[3])), *out);
  }
}

__m256 LoadHalves(const uint16_t* halves) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
}

// The scales and mins of 16 features of one block of a panel.
void UnpackFactors(const PackedFormat& format, const PackedTile& tile, int block, float* scales,
                   float* mins) {
  for (int feature = 0; feature < kTileFeatures; feature += 8) {
    const int i = block * kTileFeatures + feature;
    const __m256 scale = LoadHalves(tile.scales + i);
    _mm256_storeu_ps(scales + feature, scale);
    _mm256_storeu_ps(mins + feature,
                     format.has_mins ? LoadHalves(tile.mins + i)
                                     : _mm256_mul_ps(scale, _mm256_set1_ps(format.min_per_scale)));
  }
}

// Four inputs of 8 features, a byte each, as pairs of 16-bit numbers: the first and third ones, and the
// others. Products of these and of the activations are exact; vpmaddubsw on the bytes would saturate.
struct WeightPairs {
  __m256i even;
  __m256i odd;
};

WeightPairs PairsOf(__m256i bytes) {
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(0x00FF)), _mm256_srli_epi16(bytes, 8)};
}

__m256i LowNibbles(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(0x0F)); }
__m256i HighNibbles(__m256i bytes) { return LowNibbles(_mm256_srli_epi16(bytes, 4)); }

// Of four inputs of a panel.
constexpr int kPairBytes = kPanelFeatures * 4;

void StorePairs(__m256i bytes, uint8_t* out) {
  const WeightPairs pairs = PairsOf(bytes);
  StoreBytes(out, pairs.even);
  StoreBytes(out + kPairBytes, pairs.odd);
}

void Unpack(const PackedFormat& format, const PackedTile& tile, int num_blocks, int index,
            uint8_t* panel) {
  const int num_scales = num_blocks * (32 / format.scale_inputs);
  const uint8_t* line = tile.values;
  for (int block = 0; block < num_scales; ++block) {
    uint8_t* out = panel + index * kLineBytes;
    for (int input = 0; input < format.scale_inputs; input += 32 / format.bits) {
      for (int half = 0; half < kLineBytes; half += 32) {
        const __m256i bytes = LoadBytes(line + half);
        StorePairs(format.bits == 8 ? bytes : LowNibbles(bytes), out + half);
        if (format.bits == 4) StorePairs(HighNibbles(bytes), out + 2 * kPairBytes + half);
      }
      out += 2 * kPairBytes * (8 / format.bits);
      line += kLineBytes;
    }
    auto* factors = reinterpret_cast<float*>(out);
    UnpackFactors(format, tile, block, factors, factors + kPanelFeatures);
    panel += PanelBlockBytes(format.scale_inputs, 2);
  }
}

// Features first … first + 7 of one row.
void Finish(__m256 sum, const ProductOutput& output, int row, int first) {
  float* y = output.y + row * output.stride;
  if (first + 8 <= output.num_features) {
    __m256 result = _mm256_mul_ps(sum, _mm256_set1_ps(output.multiplier));
    if (output.bias != nullptr) {
      result = _mm256_add_ps(result, _mm256_loadu_ps(output.bias + first));
    }
    if (output.accumulate) result = _mm256_add_ps(result, _mm256_loadu_ps(y + first));
    return _mm256_storeu_ps(y + first, result);
  }
  float results[8];
  _mm256_storeu_ps(results, sum);
  for (int i = 0; i < 8 && first + i < output.num_features; ++i) {
    float result = results[i] * output.multiplier;
    if (output.bias != nullptr) result += output.bias[first + i];
    y[first + i] = output.accumulate ? y[first + i] + result : result;
  }
}

// sums + scale · x_scale · dots + min · x_sum of 8 features.
__m256 AddBlock(__m256 sums, __m256i dots, __m256 scales, __m256 mins, float x_scale, float x_sum) {
  sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots), _mm256_mul_ps(scales, _mm256_set1_ps(x_scale)),
                         sums);
  return _mm256_fmadd_ps(mins, _mm256_set1_ps(x_sum), sums);
}

// Registers of 8 features that share the loads of activations.
constexpr int kVectors = 2;

// Adds the products of two inputs of a row with 16 features. In assembly, since the compiler loads all
// rows' values before it needs them and then keeps sums in memory: half the speed.
inline void AddPair(const int8_t* values, __m256i first_weights, __m256i second_weights,
                    __m256i& first_dots, __m256i& second_dots) {
  struct Pair {
    int8_t bytes[4];
  };
  __m256i broadcast;
  __m256i products;
  asm("vpbroadcastd %[values], %[broadcast]\n\t"
      "vpmaddwd %[broadcast], %[first_weights], %[products]\n\t"
      "vpaddd %[products], %[first_dots], %[first_dots]\n\t"
      "vpmaddwd %[broadcast], %[second_weights], %[products]\n\t"
      "vpaddd %[products], %[second_dots], %[second_dots]"
      : [first_dots] "+x"(first_dots), [second_dots] "+x"(second_dots),
        [broadcast] "=&x"(broadcast), [products] "=&x"(products)
      : [values] "m"(*reinterpret_cast<const Pair*>(values)), [first_weights] "x"(first_weights),
        [second_weights] "x"(second_weights));
}

// kRows rows times features first … first + 15 of the panel. The sums of floats stay in memory from
// block to block: registers are for the dots.
template <int kRows, int kScaleInputs>
void MultiplyRows(const PanelProduct& product, int first_row, int first) {
  constexpr int kParts = 32 / kScaleInputs;
  const int64_t stride = product.x_stride;
  float* partial = product.partial_sums + first_row * kPanelFeatures + first;
  if (product.is_first) {
    for (int row = 0; row < kRows; ++row) {
      for (int i = 0; i < kVectors; ++i) {
        _mm256_storeu_ps(partial + row * kPanelFeatures + i * 8, _mm256_setzero_ps());
      }
    }
  }
  const uint8_t* panel = product.panel + first * 4;
  const ActivationBlock* x = product.x + first_row * stride;
  for (int block = 0; block < product.num_blocks; ++block, ++x) {
    for (int part = 0; part < kParts; ++part) {
      __m256i dots[kRows][kVectors];
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
        for (int i = 0; i < kVectors; ++i) dots[row][i] = _mm256_setzero_si256();
      }
#pragma GCC unroll 2
      for (int pair = 0; pair < kScaleInputs / 2; ++pair, panel += kPairBytes) {
        const __m256i first_weights = LoadBytes(panel);
        const __m256i second_weights = LoadBytes(panel + 32);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          AddPair(x[row * stride].numbers + part * 32 + pair * 4, first_weights, second_weights,
                  dots[row][0], dots[row][1]);
        }
      }
      const auto* factors = reinterpret_cast<const float*>(panel);
      panel += 2 * kPanelFeatures * sizeof(float);
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * stride];
        const float sum = kParts == 1 ? activations.sum : activations.half_sums[part];
#pragma GCC unroll 2
        for (int i = 0; i < kVectors; ++i) {
          float* to = partial + row * kPanelFeatures + i * 8;
          const __m256 added = AddBlock(_mm256_loadu_ps(to), dots[row][i],
                                        _mm256_loadu_ps(factors + i * 8),
                                        _mm256_loadu_ps(factors + kPanelFeatures + i * 8),
                                        activations.scale, sum);
          _mm256_storeu_ps(to, added);
        }
      }
    }
  }
  if (!product.is_last) return;
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kVectors; ++i) {
      Finish(_mm256_loadu_ps(partial + row * kPanelFeatures + i * 8), product.output,
             first_row + row, first + i * 8);
    }
  }
}

template <int kScaleInputs>
void MultiplyPanelOf(const PanelProduct& product) {
  constexpr int kRows = 4;
  for (int first = 0; first < kPanelFeatures && first < product.output.num_features; first += 16) {
    int row = 0;
    for (; row + kRows <= product.num_rows; row += kRows) {
      MultiplyRows<kRows, kScaleInputs>(product, row, first);
    }
    for (; row < product.num_rows; ++row) MultiplyRows<1, kScaleInputs>(product, row, first);
  }
}

void MultiplyPanel(const PanelProduct& product) {
  product.scale_inputs == 32 ? MultiplyPanelOf<32>(product) : MultiplyPanelOf<16>(product);
}

// dots += the products of four inputs of the tile's 16 features.
template <int kRows>
inline void AddProducts(__m256i first_bytes, __m256i second_bytes, const ActivationBlock* x,
                        int64_t stride, int offset, __m256i (&dots)[kRows][kVectors]) {
  const WeightPairs first = PairsOf(first_bytes);
  const WeightPairs second = PairsOf(second_bytes);
#pragma GCC unroll 4
  for (int row = 0; row < kRows; ++row) {
    const int8_t* values = x[row * stride].numbers + offset;
    AddPair(values, first.even, second.even, dots[row][0], dots[row][1]);
    AddPair(values + 4, first.odd, second.odd, dots[row][0], dots[row][1]);
  }
}

// kRows rows times the tile, straight from its packed form.
template <int kRows, int kBits, int kScaleInputs>
void MultiplyTileRows(const TileProduct& product, int first_row) {
  constexpr int kParts = 32 / kScaleInputs;
  constexpr int kPrefetchBytes = 1024;
  const int64_t stride = product.x_stride;
  const uint8_t* line = product.tile.values;
  const ActivationBlock* x = product.x + first_row * stride;
  float sums[kRows][kTileFeatures] = {};  // in memory: registers are for the dots
  for (int block = 0; block < product.num_blocks; ++block, ++x) {
    for (int part = 0; part < kParts; ++part) {
      __m256i dots[kRows][kVectors];
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        dots[row][0] = _mm256_setzero_si256();
        dots[row][1] = _mm256_setzero_si256();
      }
      for (int i = 0; i < kScaleInputs * kBits / 32; ++i, line += kLineBytes) {
        _mm_prefetch(line + kPrefetchBytes, _MM_HINT_T0);
        const __m256i first = LoadBytes(line);
        const __m256i second = LoadBytes(line + 32);
        const int offset = part * 32 + i * (64 / kBits);
        if constexpr (kBits == 4) {
          AddProducts<kRows>(LowNibbles(first), LowNibbles(second), x, stride, offset, dots);
          AddProducts<kRows>(HighNibbles(first), HighNibbles(second), x, stride, offset + 8, dots);
        } else {
          AddProducts<kRows>(first, second, x, stride, offset, dots);
        }
      }
      float scales[kTileFeatures];
      float mins[kTileFeatures];
      UnpackFactors(product.format, product.tile, block * kParts + part, scales, mins);
#pragma GCC unroll 4
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * stride];
        const float sum = kParts == 1 ? activations.sum : activations.half_sums[part];
#pragma GCC unroll 2
        for (int i = 0; i < kVectors; ++i) {
          float* to = sums[row] + i * 8;
          _mm256_storeu_ps(to, AddBlock(_mm256_loadu_ps(to), dots[row][i],
                                        _mm256_loadu_ps(scales + i * 8),
                                        _mm256_loadu_ps(mins + i * 8), activations.scale, sum));
        }
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int first = 0; first < kTileFeatures; first += 8) {
      Finish(_mm256_loadu_ps(sums[row] + first), product.output, first_row + row, first);
    }
  }
}

template <int kRows>
void MultiplyTileOf(const TileProduct& product, int first_row) {
  if (product.format.bits == 4) return MultiplyTileRows<kRows, 4, 32>(product, first_row);
  if (product.format.scale_inputs == 32) return MultiplyTileRows<kRows, 8, 32>(product, first_row);
  MultiplyTileRows<kRows, 8, 16>(product, first_row);
}

void MultiplyTile(const TileProduct& product) {
  int row = 0;
  for (; row + 4 <= product.num_rows; row += 4) MultiplyTileOf<4>(product, row);
  switch (product.num_rows - row) {
    case 3:
      return MultiplyTileOf<3>(product, row);
    case 2:
      return MultiplyTileOf<2>(product, row);
    case 1:
      return MultiplyTileOf<1>(product, row);
  }
}

constexpr MatMulKernels kKernels = {.quantize = Quantize,
                                    .unpack = Unpack,
                                    .multiply_panel = MultiplyPanel,
                                    .panel_number_bytes = 2,
                                    .panel_blocks = 10,  // 23 KiB of 32 KiB
                                    .multiply_tile = MultiplyTile,
                                    .max_tile_rows = 12};

}  // namespace

const MatMulKernels& Avx2MatMulKernels() { return kKernels; }

}  // namespace kvec::kernels::cpu
