// Compiled for AVX2, FMA and F16C. Only code of this file may be inlined here: an inline function
// of a library, compiled with these flags, could be the one the linker keeps for every processor.
#include <immintrin.h>

#include <cstring>

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

// Stores 32 numbers that fit a byte.
void StoreInts(const __m256i (&values)[4], int8_t* bytes) {
  // Packing works within 128-bit lanes; the permutation puts the words back in order.
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(values[0], values[1]),
                                            _mm256_packs_epi32(values[2], values[3]));
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(bytes),
      _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

__m256i BroadcastWord(const int8_t* values) {
  int32_t word;
  std::memcpy(&word, values, sizeof(word));
  return _mm256_set1_epi32(word);
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
    __m256i low[4];
    __m256i high[4];
    for (int i = 0; i < 4; ++i) {
      values[i] = _mm256_cvtps_epi32(_mm256_mul_ps(inputs[i], inverse));
      low[i] = _mm256_srai_epi32(_mm256_slli_epi32(values[i], 24), 24);
      high[i] = _mm256_srai_epi32(_mm256_sub_epi32(values[i], low[i]), 8);
    }
    StoreInts(high, out->high);
    StoreInts(low, out->low);
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

void Unpack(const PackedFormat& format, const PackedTile& tile, int num_blocks, int index,
            uint8_t* panel) {
  const __m256i nibble = _mm256_set1_epi8(0x0F);
  const int num_scales = num_blocks * (32 / format.scale_inputs);
  const uint8_t* line = tile.values;
  for (int block = 0; block < num_scales; ++block) {
    uint8_t* out = panel + index * kLineBytes;
    for (int input = 0; input < format.scale_inputs; input += 32 / format.bits) {
      for (int half = 0; half < kLineBytes; half += 32) {
        const __m256i bytes = LoadBytes(line + half);
        if (format.bits == 8) {
          StoreBytes(out + half, bytes);
        } else {
          StoreBytes(out + half, _mm256_and_si256(bytes, nibble));
          StoreBytes(out + 2 * kLineBytes + half,
                     _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
        }
      }
      out += 2 * kLineBytes * (8 / format.bits);
      line += kLineBytes;
    }
    auto* factors = reinterpret_cast<float*>(out);
    UnpackFactors(format, tile, block, factors, factors + kPanelFeatures);
    panel += PanelBlockBytes(format.scale_inputs);
  }
}

// Features first … first + 7 of one row.
void Finish(__m256 sum, const ProductOutput& output, int row, int first) {
  float results[8];
  _mm256_storeu_ps(results, sum);
  float* y = output.y + row * output.stride;
  for (int i = 0; i < 8 && first + i < output.num_features; ++i) {
    float result = results[i] * output.multiplier;
    if (output.bias != nullptr) result += output.bias[first + i];
    y[first + i] = output.accumulate ? y[first + i] + result : result;
  }
}

// kRows rows times features first … first + 7 of the panel. Bytes are multiplied as 16-bit pairs,
// the even and the odd ones apart, which is exact: vpmaddubsw on the bytes would saturate.
template <int kRows>
void MultiplyRows(const PanelProduct& product, int first_row, int first) {
  const int parts = 32 / product.scale_inputs;
  float* partial = product.partial_sums + first_row * kPanelFeatures + first;
  __m256 sums[kRows];
  for (int row = 0; row < kRows; ++row) {
    sums[row] =
        product.is_first ? _mm256_setzero_ps() : _mm256_loadu_ps(partial + row * kPanelFeatures);
  }
  const uint8_t* panel = product.panel;
  for (int block = 0; block < product.num_blocks; ++block) {
    const ActivationBlock* x = product.x + first_row * product.x_stride + block;
    for (int part = 0; part < parts; ++part) {
      __m256i dots[kRows];
      for (int row = 0; row < kRows; ++row) dots[row] = _mm256_setzero_si256();
      for (int i = 0; i < product.scale_inputs; i += 4, panel += 2 * kLineBytes) {
        const __m256i weights = LoadBytes(panel + first * 4);
        const __m256i even = _mm256_and_si256(weights, _mm256_set1_epi16(0x00FF));
        const __m256i odd = _mm256_srli_epi16(weights, 8);
        for (int row = 0; row < kRows; ++row) {
          const ActivationBlock& activations = x[row * product.x_stride];
          const int first_input = part * product.scale_inputs + i;
          const __m256i high = BroadcastWord(activations.high + first_input);
          const __m256i low = BroadcastWord(activations.low + first_input);
          const __m256i even_values =
              _mm256_add_epi16(_mm256_slli_epi16(high, 8),
                               _mm256_srai_epi16(_mm256_slli_epi16(low, 8), 8));
          const __m256i odd_values =
              _mm256_add_epi16(_mm256_slli_epi16(_mm256_srli_epi16(high, 8), 8),
                               _mm256_srai_epi16(low, 8));
          dots[row] = _mm256_add_epi32(dots[row], _mm256_madd_epi16(even, even_values));
          dots[row] = _mm256_add_epi32(dots[row], _mm256_madd_epi16(odd, odd_values));
        }
      }
      const auto* factors = reinterpret_cast<const float*>(panel) + first;
      panel += 4 * kLineBytes;
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * product.x_stride];
        const float sum = parts == 1 ? activations.sum : activations.half_sums[part];
        const __m256 scales =
            _mm256_mul_ps(_mm256_loadu_ps(factors), _mm256_set1_ps(activations.scale));
        sums[row] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[row]), scales, sums[row]);
        sums[row] = _mm256_fmadd_ps(_mm256_loadu_ps(factors + kPanelFeatures), _mm256_set1_ps(sum),
                                    sums[row]);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    if (product.is_last) {
      Finish(sums[row], product.output, first_row + row, first);
    } else {
      _mm256_storeu_ps(partial + row * kPanelFeatures, sums[row]);
    }
  }
}

void MultiplyPanel(const PanelProduct& product) {
  constexpr int kRows = 4;
  for (int first = 0; first < kPanelFeatures && first < product.output.num_features; first += 8) {
    int row = 0;
    for (; row + kRows <= product.num_rows; row += kRows) MultiplyRows<kRows>(product, row, first);
    for (; row < product.num_rows; ++row) MultiplyRows<1>(product, row, first);
  }
}

constexpr MatMulKernels kKernels = {.quantize = Quantize,
                                    .unpack = Unpack,
                                    .multiply_panel = MultiplyPanel,
                                    .multiply_tile = nullptr,
                                    .max_tile_rows = 0};

}  // namespace

const MatMulKernels& Avx2MatMulKernels() { return kKernels; }

}  // namespace kvec::kernels::cpu
