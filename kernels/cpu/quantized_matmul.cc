#include "kernels/cpu/quantized_matmul.h"

#include <algorithm>

namespace kvec::kernels::cpu {
namespace {

// Inputs of a panel, in blocks of 32: 24 of them are 30 KiB, which leaves room for the rows in a
// first-level cache of 48 KiB.
constexpr int kPanelBlocks = 24;
constexpr size_t kPanelBytes = kPanelBlocks * 2 * (16 * kPanelFeatures + 256);  // scale_inputs 16

static_assert(kPanelFeatures == 2 * kTileFeatures);

}  // namespace

size_t QuantizedMatMul::ScratchBytes(int num_rows) {
  return kPanelBytes + sizeof(float) * kPanelFeatures * num_rows;
}

ProductOutput QuantizedMatMul::OutputOf(int row, int feature) const {
  return {.y = y.data + row * y.stride + feature,
          .stride = y.stride,
          .num_features = std::min(kPanelFeatures, weight.out_features() - feature),
          .bias = bias == nullptr ? nullptr : bias + feature,
          .multiplier = weight.multiplier(),
          .accumulate = accumulate};
}

void QuantizedMatMul::MultiplyPanel(int panel, int row_begin, int num_rows, int next_panel,
                                    uint8_t* scratch) const {
  const int num_blocks = weight.num_blocks();
  const int first_tile = 2 * panel;
  // An odd number of tiles: the last is there twice, and its second results go nowhere.
  const int second_tile = std::min(first_tile + 1, weight.num_tiles() - 1);
  const uint8_t* ahead =
      next_panel < num_panels() ? weight.Tile(2 * next_panel, 0).values : nullptr;
  for (int begin = 0; begin < num_blocks; begin += kPanelBlocks) {
    const int count = std::min(kPanelBlocks, num_blocks - begin);
    kernels.unpack(weight.format(), weight.Tile(first_tile, begin), count, 0, scratch);
    kernels.unpack(weight.format(), weight.Tile(second_tile, begin), count, 1, scratch);
    kernels.multiply_panel(
        {.panel = scratch,
         .scale_inputs = weight.format().scale_inputs,
         .num_blocks = count,
         .x = x + int64_t{row_begin} * num_blocks + begin,
         .x_stride = num_blocks,
         .num_rows = num_rows,
         .ahead = ahead,
         .ahead_bytes = begin == 0 && ahead != nullptr ? 2 * weight.tile_bytes() : 0,
         .partial_sums = reinterpret_cast<float*>(scratch + kPanelBytes),
         .is_first = begin == 0,
         .is_last = begin + count == num_blocks,
         .output = OutputOf(row_begin, panel * kPanelFeatures)});
  }
}

void QuantizedMatMul::MultiplyTiles(int tile_begin, int tile_end) const {
  for (int tile = tile_begin; tile < tile_end; ++tile) {
    kernels.multiply_tile({.format = weight.format(),
                           .tile = weight.Tile(tile, 0),
                           .num_blocks = weight.num_blocks(),
                           .x = x,
                           .x_stride = weight.num_blocks(),
                           .num_rows = y.rows,
                           .output = OutputOf(0, tile * kTileFeatures)});
  }
}

}  // namespace kvec::kernels::cpu
