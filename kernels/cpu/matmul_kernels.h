#ifndef KVEC_KERNELS_CPU_MATMUL_KERNELS_H_
#define KVEC_KERNELS_CPU_MATMUL_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

// The inner loops of products with quantised weights, once per instruction set. A weight is
//     w[feature, input] = scale · u + min,   u unsigned,
// with a scale and a min per block of inputs, and activations are 16-bit integers q with one scale per
// 32 inputs, so that
//     y = Σ over blocks: (scale · x_scale) · (u · q) + min · x_sum,
// where u · q is an exact integer and the blocks are added in ascending order, in float32. A row's
// bits therefore depend neither on the rows beside it nor on how loops over inputs are split.
namespace kvec::kernels::cpu {

inline constexpr int kTileFeatures = 16;   // 16 × 4 inputs: one 64-byte register of weights
inline constexpr int kPanelFeatures = 32;  // two tiles share every load of activations

// 32 inputs of a row as integers q of 16 bits, |q| <= 32512. Bytes alone are too coarse: on SmolLM2 they
// move log-probabilities by up to 0.73, 16 bits by 0.01 (measured on the goldens, f16 cache). Scale and
// sums lie beside the values: a kernel needs one pointer per row.
struct ActivationBlock {
  // As the kernels multiply fastest. Where bytes have a product that adds up four of them (AVX512), and
  // in the scalar kernels: q = 256 · high + low, first all high bytes, then all low ones. With AVX2
  // 16-bit numbers, of every four inputs 0, 2, 1, 3: the even bytes of a weight meet the first two.
  int8_t numbers[64];
  float scale;
  float sum;           // scale · Σ q
  float half_sums[2];  // the same over 16 values each

  int8_t* high() { return numbers; }
  int8_t* low() { return numbers + 32; }
  const int8_t* high() const { return numbers; }
  const int8_t* low() const { return numbers + 32; }
};

// How the numbers of a packed weight lie in memory.
struct PackedFormat {
  int bits;             // 4 or 8
  int scale_inputs;     // inputs that share a scale: 32 or 16
  bool has_mins;        // else min = min_per_scale · scale
  float min_per_scale;  // a small negative integer
};

// 16 output features of a packed weight.
struct PackedTile {
  // Words of 4 inputs: [inputs / 4][16]; with 4 bits two words share a 64-byte line, the even one
  // in the low nibbles: [inputs / 8][16].
  const uint8_t* values;
  const uint16_t* scales;  // float16 [inputs / scale_inputs][16]
  const uint16_t* mins;    // the same; null when !has_mins
};

// A panel is two tiles made ready for many rows: per block of scale_inputs the numbers, then the float32
// scales [2][16] and mins [2][16]. Numbers are bytes [scale_inputs / 4][2][16][4], or, with AVX2, of
// 16 bits: [scale_inputs / 4][2][2][16][2], the first and third of four inputs, then the others.
inline size_t PanelBlockBytes(int scale_inputs, int number_bytes) {
  return static_cast<size_t>(scale_inputs) * kPanelFeatures * number_bytes +
         2 * kPanelFeatures * sizeof(float);
}

// Where finished sums go: y = multiplier · sum (+ bias) (+ y).
struct ProductOutput {
  float* y;           // [rows, num_features]
  int64_t stride;     // floats from row to row
  int num_features;   // 1 … 32; features beyond are padding
  const float* bias;  // [num_features] or null
  float multiplier;
  bool accumulate;
};

struct PanelProduct {
  const uint8_t* panel;
  int scale_inputs;
  int num_blocks;            // of 32 inputs
  const ActivationBlock* x;  // [rows, x_stride]
  int64_t x_stride;
  int num_rows;
  // Packed bytes that are wanted soon: fetched into the cache on the way. May be null.
  const uint8_t* ahead;
  size_t ahead_bytes;
  float* partial_sums;  // [rows, 32]; used when the inputs come in several panels
  bool is_first;        // sums begin at zero, else at partial_sums
  bool is_last;         // sums go to output, else to partial_sums
  ProductOutput output;
};

// A few rows times one tile straight from the packed form: nothing is written but y, since few rows
// are bound by the reading of weights.
struct TileProduct {
  PackedFormat format;
  PackedTile tile;
  int num_blocks;            // of 32 inputs
  const ActivationBlock* x;  // [rows, x_stride]
  int64_t x_stride;
  int num_rows;  // 1 … max_tile_rows
  ProductOutput output;
};

struct MatMulKernels {
  // Quantises num_blocks · 32 floats.
  void (*quantize)(const float* x, int num_blocks, ActivationBlock* out);

  // Writes tile `index` (0 or 1) of a panel out of num_blocks · 32 inputs; `tile` begins at them.
  void (*unpack)(const PackedFormat& format, const PackedTile& tile, int num_blocks, int index,
                 uint8_t* panel);

  void (*multiply_panel)(const PanelProduct& product);
  int panel_number_bytes;
  // Inputs that are unpacked at a time, in blocks of 32: what leaves room for the activations in the
  // first-level cache.
  int panel_blocks;

  // Null: panels serve few rows as well.
  void (*multiply_tile)(const TileProduct& product);
  int max_tile_rows;  // of multiply_tile
};

// The best kernels within `isa`, which this processor must have.
const MatMulKernels& GetMatMulKernels(Isa isa);

// Called by GetMatMulKernels.
const MatMulKernels& ScalarMatMulKernels();
const MatMulKernels& Avx2MatMulKernels();
const MatMulKernels& Avx512MatMulKernels();

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_MATMUL_KERNELS_H_
