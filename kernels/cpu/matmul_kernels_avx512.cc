// Compiled for AVX512 with VNNI. Only code of this file may be inlined here: an inline function of
// a library, compiled with these flags, could be the one the linker keeps for every processor.
#include <immintrin.h>

#include <cstring>

#include "kernels/cpu/activation_block-inl.h"
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

// The 128-bit lanes 1, 0, 3, 2.
__m512 SwapLanes(__m512 v) { return _mm512_shuffle_f32x4(v, v, 0xB1); }
__m512i SwapLanes(__m512i v) { return _mm512_shuffle_i32x4(v, v, 0xB1); }

// The largest magnitude of each block; registers hold 16 inputs each.
__m128 MaximaOf(const __m512 (&x)[2][2]) {
  const __m512 first = _mm512_max_ps(_mm512_abs_ps(x[0][0]), _mm512_abs_ps(x[0][1]));
  const __m512 second = _mm512_max_ps(_mm512_abs_ps(x[1][0]), _mm512_abs_ps(x[1][1]));
  // From here on the first block has lanes 0 and 1, the second 2 and 3.
  __m512 max = _mm512_max_ps(_mm512_shuffle_f32x4(first, second, 0x44),
                             _mm512_shuffle_f32x4(first, second, 0xEE));
  max = _mm512_max_ps(max, SwapLanes(max));
  max = _mm512_max_ps(max, _mm512_permute_ps(max, 0x4E));
  max = _mm512_max_ps(max, _mm512_permute_ps(max, 0xB1));
  return _mm_unpacklo_ps(_mm512_castps512_ps128(max), _mm512_extractf32x4_ps(max, 2));
}

// 64 numbers that fit a byte.
__m512i PackBytes(const __m512i (&words)[2][2]) {
  const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(words[0][0], words[0][1]),
                                            _mm512_packs_epi32(words[1][0], words[1][1]));
  // Packing works within lanes: lane i got the i-th quarters of all four.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, packed);
}

// Two blocks at a time, or the last one alone: most instructions serve both, so that rounding the
// activations stays below 3 % of a product with 576 features.
template <int kBlocks>
void QuantizeBlocks(const float* x, ActivationBlock* out) {
  __m512 inputs[2][2];
  for (int block = 0; block < 2; ++block) {
    for (int half = 0; half < 2; ++half) {
      inputs[block][half] =
          block < kBlocks ? _mm512_loadu_ps(x + block * 32 + half * 16) : _mm512_setzero_ps();
    }
  }
  const __m128 maxima = MaximaOf(inputs);
  const __mmask8 is_nonzero = _mm_cmp_ps_mask(maxima, _mm_set1_ps(kSmallestMaximum), _CMP_GE_OQ);
  const __m512 scales =
      _mm512_castps128_ps512(
          _mm_maskz_mul_ps(is_nonzero, maxima, _mm_set1_ps(1.0f / kLargestValue)));
  const __m512 inverses =
      _mm512_castps128_ps512(_mm_maskz_div_ps(is_nonzero, _mm_set1_ps(kLargestValue), maxima));

  __m512i low_words[2][2];
  __m512i high_words[2][2];
  for (int block = 0; block < 2; ++block) {
    const __m512 inverse = _mm512_permutexvar_ps(_mm512_set1_epi32(block), inverses);
    for (int half = 0; half < 2; ++half) {
      const __m512i values = _mm512_cvtps_epi32(_mm512_mul_ps(inputs[block][half], inverse));
      const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(values, 24), 24);
      low_words[block][half] = low;
      high_words[block][half] = _mm512_srai_epi32(_mm512_sub_epi32(values, low), 8);
    }
  }
  const __m512i low = PackBytes(low_words);
  const __m512i high = PackBytes(high_words);

  // A lane has the values of half a block: its sum, the other half's, and both.
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, high);
  sums = _mm512_dpbusd_epi32(_mm512_slli_epi32(sums, 8), ones, low);
  sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_BADC));
  sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
  const __m512i other_sums = SwapLanes(sums);
  // ActivationBlock's scale, sum and half_sums, in lanes 0 and 2.
  __m512i tail = _mm512_add_epi32(sums, other_sums);
  tail = _mm512_mask_mov_epi32(tail, 0x1111, _mm512_set1_epi32(1));
  tail = _mm512_mask_mov_epi32(tail, 0x4444, sums);
  tail = _mm512_mask_mov_epi32(tail, 0x8888, other_sums);
  const __m512i block_of_lane = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m512 factors =
      _mm512_mul_ps(_mm512_cvtepi32_ps(tail), _mm512_permutexvar_ps(block_of_lane, scales));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->high()), _mm512_castsi512_si256(high));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->low()), _mm512_castsi512_si256(low));
  _mm_storeu_ps(&out->scale, _mm512_castps512_ps128(factors));
  if constexpr (kBlocks == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[1].high()),
                        _mm512_extracti64x4_epi64(high, 1));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[1].low()),
                        _mm512_extracti64x4_epi64(low, 1));
    _mm_storeu_ps(&out[1].scale, _mm512_extractf32x4_ps(factors, 2));
  }
}

void Quantize(const float* x, int num_blocks, ActivationBlock* out) {
  int block = 0;
  for (; block + 2 <= num_blocks; block += 2) QuantizeBlocks<2>(x + block * 32, out + block);
  if (block < num_blocks) QuantizeBlocks<1>(x + block * 32, out + block);
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
    panel += PanelBlockBytes(format.scale_inputs, 1);
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

// What one block adds to the sums of a row. Every kernel here adds blocks by this function and in
// ascending order: a row's bits do not depend on which of them ran.
__m512 AddBlock(__m512 sums, __m512i dots, __m512 scales, __m512 mins, float x_scale, float x_sum) {
  sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), _mm512_mul_ps(scales, _mm512_set1_ps(x_scale)),
                         sums);
  return _mm512_fmadd_ps(mins, _mm512_set1_ps(x_sum), sums);
}

// 6 rows × 2 tiles: 12 integer and 12 float32 accumulators, 2 registers of weights and some to
// spare of the 32.
constexpr int kPanelRows = 6;

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
  // Two lines per block: 64 rows fetch the whole next panel.
  size_t ahead = size_t{2} * kLineBytes * product.num_blocks * (first_row / kPanelRows);
  for (int block = 0; block < product.num_blocks; ++block, ++x) {
    if (ahead < product.ahead_bytes) {
      _mm_prefetch(product.ahead + ahead, _MM_HINT_T1);
      _mm_prefetch(product.ahead + ahead + kLineBytes, _MM_HINT_T1);
      ahead += 2 * kLineBytes;
    }
#pragma GCC unroll 2
    for (int part = 0; part < kScalesPerBlock; ++part) {
      __m512i dots[kRows][2];
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) dots[row][0] = dots[row][1] = _mm512_setzero_si512();
      // High bytes first: shifted, their sum goes on with the low bytes in the same register.
#pragma GCC unroll 2
      for (const bool is_low : {false, true}) {
#pragma GCC unroll 8
        for (int word = 0; word < kScaleInputs / 4; ++word) {
          const __m512i weights0 = LoadLine(panel + word * 2 * kLineBytes);
          const __m512i weights1 = LoadLine(panel + word * 2 * kLineBytes + kLineBytes);
#pragma GCC unroll 8
          for (int row = 0; row < kRows; ++row) {
            const ActivationBlock& activations = x[row * stride];
            const __m512i values = BroadcastWord((is_low ? activations.low() : activations.high()) +
                                                 part * kScaleInputs + word * 4);
            dots[row][0] = _mm512_dpbusd_epi32(dots[row][0], weights0, values);
            dots[row][1] = _mm512_dpbusd_epi32(dots[row][1], weights1, values);
          }
        }
        if (is_low) break;
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
          dots[row][0] = _mm512_slli_epi32(dots[row][0], 8);
          dots[row][1] = _mm512_slli_epi32(dots[row][1], 8);
        }
      }
      panel += kScaleInputs / 4 * 2 * kLineBytes;
      const auto* factors = reinterpret_cast<const float*>(panel);
      panel += 4 * kLineBytes;
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * stride];
        const float sum = kScalesPerBlock == 1 ? activations.sum : activations.half_sums[part];
#pragma GCC unroll 2
        for (int tile = 0; tile < 2; ++tile) {
          sums[row][tile] = AddBlock(
              sums[row][tile], dots[row][tile], _mm512_loadu_ps(factors + tile * 16),
              _mm512_loadu_ps(factors + kPanelFeatures + tile * 16), activations.scale, sum);
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

template <int kScaleInputs>
void MultiplyPanelOf(const PanelProduct& product) {
  int row = 0;
  for (; row + kPanelRows <= product.num_rows; row += kPanelRows) {
    MultiplyRows<kPanelRows, kScaleInputs>(product, row);
  }
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

// kRows rows times one tile. Rows share what is loaded and unpacked of the weight.
template <int kRows, int kBits, int kScaleInputs>
void MultiplyTileRows(const TileProduct& product, int first_row) {
  constexpr int kScalesPerBlock = 32 / kScaleInputs;
  const uint8_t* line = product.tile.values;
  const ActivationBlock* x = product.x + first_row * product.x_stride;
  const int64_t stride = product.x_stride;
  __m512 sums[kRows];
  for (int row = 0; row < kRows; ++row) sums[row] = _mm512_setzero_ps();
  for (int block = 0; block < product.num_blocks; ++block, ++x) {
#pragma GCC unroll 2
    for (int part = 0; part < kScalesPerBlock; ++part) {
      __m512i high_dots[kRows];
      __m512i low_dots[kRows];
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) high_dots[row] = low_dots[row] = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int word = 0; word < kScaleInputs / 4; word += 8 / kBits, line += kLineBytes) {
        _mm_prefetch(line + kPrefetchBytes, _MM_HINT_T0);
        const __m512i weights = LoadLine(line);
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
          const int8_t* high = x[row * stride].high() + part * kScaleInputs + word * 4;
          const int8_t* low = x[row * stride].low() + part * kScaleInputs + word * 4;
          const __m512i first = kBits == 8 ? weights : LowNibbles(weights);
          high_dots[row] = _mm512_dpbusd_epi32(high_dots[row], first, BroadcastWord(high));
          low_dots[row] = _mm512_dpbusd_epi32(low_dots[row], first, BroadcastWord(low));
          if constexpr (kBits == 4) {
            const __m512i second = HighNibbles(weights);
            high_dots[row] = _mm512_dpbusd_epi32(high_dots[row], second, BroadcastWord(high + 4));
            low_dots[row] = _mm512_dpbusd_epi32(low_dots[row], second, BroadcastWord(low + 4));
          }
        }
      }
      const int scale_block = block * kScalesPerBlock + part;
      const __m512 scales = LoadHalves(product.tile.scales + scale_block * kTileFeatures);
      const __m512 mins = LoadMins(product.format, product.tile, scale_block, scales);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row) {
        const ActivationBlock& activations = x[row * stride];
        const __m512i dots =
            _mm512_add_epi32(_mm512_slli_epi32(high_dots[row], 8), low_dots[row]);
        sums[row] = AddBlock(sums[row], dots, scales, mins, activations.scale,
                             kScalesPerBlock == 1 ? activations.sum : activations.half_sums[part]);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) Finish(sums[row], product.output, first_row + row, 0);
}

template <int kRows>
void MultiplyTileOf(const TileProduct& product, int first_row) {
  if (product.format.bits == 4) return MultiplyTileRows<kRows, 4, 32>(product, first_row);
  if (product.format.scale_inputs == 32) return MultiplyTileRows<kRows, 8, 32>(product, first_row);
  MultiplyTileRows<kRows, 8, 16>(product, first_row);
}

void MultiplyTileRows(const TileProduct& product, int first_row, int num_rows) {
  switch (num_rows) {
    case 1:
      return MultiplyTileOf<1>(product, first_row);
    case 2:
      return MultiplyTileOf<2>(product, first_row);
    case 3:
      return MultiplyTileOf<3>(product, first_row);
    case 4:
      return MultiplyTileOf<4>(product, first_row);
    case 5:
      return MultiplyTileOf<5>(product, first_row);
    case 6:
      return MultiplyTileOf<6>(product, first_row);
    case 7:
      return MultiplyTileOf<7>(product, first_row);
    default:
      return MultiplyTileOf<8>(product, first_row);
  }
}

void MultiplyTile(const TileProduct& product) {
  // Even groups of up to 8 rows: 9 are 5 and 4.
  const int num_groups = (product.num_rows + 7) / 8;
  for (int group = 0; group < num_groups; ++group) {
    const int begin = product.num_rows * group / num_groups;
    MultiplyTileRows(product, begin, product.num_rows * (group + 1) / num_groups - begin);
  }
}

constexpr MatMulKernels kKernels = {.quantize = Quantize,
                                    .unpack = Unpack,
                                    .multiply_panel = MultiplyPanel,
                                    .panel_number_bytes = 1,
                                    .panel_blocks = 24,  // 30 KiB of 48 KiB
                                    .multiply_tile = MultiplyTile,
                                    .max_tile_rows = 24};

}  // namespace

const MatMulKernels& Avx512MatMulKernels() { return kKernels; }

}  // namespace kvec::kernels::cpu
