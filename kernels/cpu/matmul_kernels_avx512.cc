// Compiled for AVX512 with VNNI. Only code of this file may be inlined here: an inline function of
// a library, compiled with these flags, could be the one the linker keeps for every processor.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/matmul_kernels.h"

namespace kvec::kernels::cpu {
namespace {

constexpr int kLineBytes = 64;
// Ahead of a single row's product: further than the processor's own prefetch dares, which stops at
// page borders.
constexpr int kPrefetchBytes = 4096;

__m512i LoadLine(const uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

// The same 4 activations for each of 16 features.
__m512i BroadcastWord(const int8_t* values) {
  int32_t word;
  std::memcpy(&word, values, sizeof(word));
  return _mm512_set1_epi32(word);
}

__m512 LoadHalves(const uint16_t* halves) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
}

__m512i LowNibbles(__m512i line) { return _mm512_and_si512(line, _mm512_set1_epi8(0x0F)); }
__m512i HighNibbles(__m512i line) { return LowNibbles(_mm512_srli_epi16(line, 4)); }

// Values are below 2^-100 only where all of them are noise: their inverse would overflow.
constexpr float kSmallestMaximum = 1e-30f;

void Quantize(const float* x, int num_blocks, ActivationBlock* out) {
  for (int block = 0; block < num_blocks; ++block, x += 32, ++out) {
    const __m512 low = _mm512_loadu_ps(x);
    const __m512 high = _mm512_loadu_ps(x + 16);
    const float maximum =
        _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const bool is_zero = maximum < kSmallestMaximum;
    const float scale = is_zero ? 0.0f : maximum / 127.0f;
    const __m512 inverse = _mm512_set1_ps(is_zero ? 0.0f : 127.0f / maximum);
    const __m512i low_values = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i high_values = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values), _mm512_cvtsepi32_epi8(low_values));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out->values + 16),
                     _mm512_cvtsepi32_epi8(high_values));
    const int low_sum = _mm512_reduce_add_epi32(low_values);
    const int high_sum = _mm512_reduce_add_epi32(high_values);
    out->scale = scale;
    out->sum = scale * static_cast<float>(low_sum + high_sum);
    out->half_sums[0] = scale * static_cast<float>(low_sum);
    out->half_sums[1] = scale * static_cast<float>(high_sum);
  }
}

__m512 LoadMins(const PackedFormat& format, const PackedTile& tile, int block, __m512 scales) {
  if (format.has_mins) return LoadHalves(tile.mins + block * kTileFeatures);
  return _mm512_mul_ps(scales, _mm512_set1_ps(format.min_per_scale));
}

void Unpack(const PackedFormat& format, const PackedTile& tile, int num_blocks, int index,
            uint8_t* panel) {
  const int num_scales = num_blocks * (32 / format.scale_inputs);
  const int words = format.scale_inputs / 4;
  const uint8_t* line = tile.values;
  for (int block = 0; block < num_scales; ++block) {
    uint8_t* out = panel + index * kLineBytes;
    for (int word = 0; word < words; ++word, out += 2 * kLineBytes, line += kLineBytes) {
      if (format.bits == 8) {
        _mm512_storeu_si512(out, LoadLine(line));
        continue;
      }
      _mm512_storeu_si512(out, LowNibbles(LoadLine(line)));
      out += 2 * kLineBytes;
      ++word;
      _mm512_storeu_si512(out, HighNibbles(LoadLine(line)));
    }
    const __m512 scales = LoadHalves(tile.scales + block * kTileFeatures);
    _mm512_storeu_ps(out, scales);
    _mm512_storeu_ps(out + 2 * kLineBytes, LoadMins(format, tile, block, scales));
    panel += PanelBlockBytes(format.scale_inputs);
  }
}

__mmask16 FeatureMask(int num_features) {
  if (num_features >= kTileFeatures) return 0xFFFF;
  return num_features <= 0 ? 0 : static_cast<__mmask16>((1u << num_features) - 1);
}

// Features first … first + 15 of one row.
void Finish(__m512 sum, const ProductOutput& output, int row, int first) {
  const __mmask16 mask = FeatureMask(output.num_features - first);
  float* y = output.y + row * output.stride + first;
  __m512 result = _mm512_mul_ps(sum, _mm512_set1_ps(output.multiplier));
  if (output.bias != nullptr) {
    result = _mm512_add_ps(result, _mm512_maskz_loadu_ps(mask, output.bias + first));
  }
  if (output.accumulate) result = _mm512_add_ps(result, _mm512_maskz_loadu_ps(mask, y));
  _mm512_mask_storeu_ps(y, mask, result);
}

template <int kRows, int kScaleInputs>
void MultiplyRows(const PanelProduct& product, int first_row) {
  constexpr int kScalesPerBlock = 32 / kScaleInputs;
  __m512 sums[kRows][2];
  float* partial = product.partial_sums + first_row * kPanelFeatures;
  for (int row = 0; row < kRows; ++row) {
    for (int tile = 0; tile < 2; ++tile) {
      sums[row][tile] = product.is_first
                            ? _mm512_setzero_ps()
                            : _mm512_loadu_ps(partial + row * kPanelFeatures + tile * 16);
    }
  }
  const uint8_t* panel = product.panel;
  const ActivationBlock* x = product.x + first_row * product.x_stride;
  const int64_t stride = product.x_stride;
  for (int block = 0; block < product.num_blocks; ++block, ++x) {
#pragma GCC unroll 2
    for (int part = 0; part < kScalesPerBlock; ++part) {
      __m512i dots[kRows][2];
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) dots[row][0] = dots[row][1] = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int word = 0; word < kScaleInputs / 4; ++word, panel += 2 * kLineBytes) {
        const __m512i weights0 = LoadLine(panel);
        const __m512i weights1 = LoadLine(panel + kLineBytes);
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
          const __m512i values =
              BroadcastWord(x[row * stride].values + part * kScaleInputs + word * 4);
          dots[row][0] = _mm512_dpbusd_epi32(dots[row][0], weights0, values);
          dots[row][1] = _mm512_dpbusd_epi32(dots[row][1], weights1, values);
        }
      }
      const auto* factors = reinterpret_cast<const float*>(panel);
      panel += 4 * kLineBytes;
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * stride];
        const __m512 scale = _mm512_set1_ps(activations.scale);
        const __m512 sum =
            _mm512_set1_ps(kScalesPerBlock == 1 ? activations.sum : activations.half_sums[part]);
#pragma GCC unroll 2
        for (int tile = 0; tile < 2; ++tile) {
          const __m512 scales = _mm512_mul_ps(_mm512_loadu_ps(factors + tile * 16), scale);
          const __m512 mins = _mm512_loadu_ps(factors + kPanelFeatures + tile * 16);
          sums[row][tile] =
              _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[row][tile]), scales, sums[row][tile]);
          sums[row][tile] = _mm512_fmadd_ps(mins, sum, sums[row][tile]);
        }
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int tile = 0; tile < 2; ++tile) {
      if (product.is_last) {
        Finish(sums[row][tile], product.output, first_row + row, tile * kTileFeatures);
      } else {
        _mm512_storeu_ps(partial + row * kPanelFeatures + tile * 16, sums[row][tile]);
      }
    }
  }
}

// 6 rows × 2 tiles: 12 integer and 12 float32 accumulators, 2 registers of weights and some to
// spare of the 32.
template <int kScaleInputs>
void MultiplyPanelOf(const PanelProduct& product) {
  int row = 0;
  for (; row + 6 <= product.num_rows; row += 6) MultiplyRows<6, kScaleInputs>(product, row);
  switch (product.num_rows - row) {
    case 5:
      return MultiplyRows<5, kScaleInputs>(product, row);
    case 4:
      return MultiplyRows<4, kScaleInputs>(product, row);
    case 3:
      return MultiplyRows<3, kScaleInputs>(product, row);
    case 2:
      return MultiplyRows<2, kScaleInputs>(product, row);
    case 1:
      return MultiplyRows<1, kScaleInputs>(product, row);
  }
}

void MultiplyPanel(const PanelProduct& product) {
  product.scale_inputs == 32 ? MultiplyPanelOf<32>(product) : MultiplyPanelOf<16>(product);
}

template <int kBits, int kScaleInputs>
void MultiplyRowOf(const PackedFormat& format, const PackedTile& tile, int num_blocks,
                   const ActivationBlock* x, const ProductOutput& output) {
  constexpr int kScalesPerBlock = 32 / kScaleInputs;
  const uint8_t* line = tile.values;
  __m512 sums = _mm512_setzero_ps();
  for (int block = 0; block < num_blocks; ++block, ++x) {
#pragma GCC unroll 2
    for (int part = 0; part < kScalesPerBlock; ++part) {
      __m512i dots = _mm512_setzero_si512();
      const int8_t* values = x->values + part * kScaleInputs;
#pragma GCC unroll 8
      for (int word = 0; word < kScaleInputs / 4; word += 8 / kBits, line += kLineBytes) {
        _mm_prefetch(line + kPrefetchBytes, _MM_HINT_T0);
        const __m512i weights = LoadLine(line);
        if constexpr (kBits == 8) {
          dots = _mm512_dpbusd_epi32(dots, weights, BroadcastWord(values + word * 4));
        } else {
          dots = _mm512_dpbusd_epi32(dots, LowNibbles(weights), BroadcastWord(values + word * 4));
          dots =
              _mm512_dpbusd_epi32(dots, HighNibbles(weights), BroadcastWord(values + word * 4 + 4));
        }
      }
      const int scale_block = block * kScalesPerBlock + part;
      const __m512 scales = LoadHalves(tile.scales + scale_block * kTileFeatures);
      const __m512 mins = LoadMins(format, tile, scale_block, scales);
      sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots),
                             _mm512_mul_ps(scales, _mm512_set1_ps(x->scale)), sums);
      sums = _mm512_fmadd_ps(
          mins, _mm512_set1_ps(kScalesPerBlock == 1 ? x->sum : x->half_sums[part]), sums);
    }
  }
  Finish(sums, output, 0, 0);
}

void MultiplyRow(const PackedFormat& format, const PackedTile& tile, int num_blocks,
                 const ActivationBlock* x, const ProductOutput& output) {
  if (format.bits == 4) return MultiplyRowOf<4, 32>(format, tile, num_blocks, x, output);
  if (format.scale_inputs == 32) return MultiplyRowOf<8, 32>(format, tile, num_blocks, x, output);
  MultiplyRowOf<8, 16>(format, tile, num_blocks, x, output);
}

constexpr MatMulKernels kKernels = {.quantize = Quantize,
                                    .unpack = Unpack,
                                    .multiply_panel = MultiplyPanel,
                                    .multiply_row = MultiplyRow};

}  // namespace

const MatMulKernels& Avx512MatMulKernels() { return kKernels; }

}  // namespace kvec::kernels::cpu
