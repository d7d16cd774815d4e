#include "kernels/cpu/quantized_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "common/tensor/dequantize.h"
#include "kernels/cpu/unsigned_block.h"

namespace kvec::kernels::cpu {
namespace {

constexpr size_t kCacheLineBytes = 64;

// Four inputs of a block, or with 4 bits eight: see PackedTile.
uint32_t PackedWord(const UnsignedBlock& block, int bits, int index) {
  uint32_t words[2];
  if (bits == 8) {
    std::memcpy(words, block.values + index * 4, 4);
    return words[0];
  }
  std::memcpy(words, block.values + index * 8, 8);
  return words[0] | (words[1] << 4);
}

static_assert(kPanelFeatures == 2 * kTileFeatures);

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

float LargestScale(const WeightSource& source, RowRange rows) {
  float largest = 0;
  UnsignedBlock block;
  for (int row = rows.begin; row < rows.begin + rows.count; ++row) {
    for (int i = 0; i < source.in_features / kBlockInputs; ++i) {
      DecodeUnsignedBlock(source.type, RowOf(source, row), i, block);
      for (float value : {block.scale[0], block.scale[1], block.min[0]}) {
        // Infinite ones, of a broken file, do not count.
        if (std::isfinite(value)) largest = std::max(largest, std::fabs(value));
      }
    }
  }
  return largest;
}

// The power of two by which stored scales and mins are multiplied. Those of the K types are
// products that float16 may not hold: it brings the largest of the weight to [2^14, 2^15). All
// others are float16 in the file.
float MultiplierOf(ThreadPool& pool, const WeightSource& source) {
  if (GetTraits(source.type).block_elements == kBlockInputs) return 1;
  std::vector<float> largest(pool.num_threads());
  pool.Run([&](int thread) {
    largest[thread] = LargestScale(source, ShareOf(thread, pool.num_threads(), source.num_rows));
  });
  int exponent = 0;
  std::frexp(*absl::c_max_element(largest), &exponent);  // in [2^(exponent - 1), 2^exponent)
  return std::ldexp(1.0f, exponent - 15);
}

}  // namespace

QuantizedWeight::QuantizedWeight(const WeightSource& source, Isa isa, float multiplier)
    : out_features_(source.num_rows),
      in_features_(source.in_features),
      format_(FormatOf(source.type)),
      multiplier_(multiplier),
      kernels_(GetMatMulKernels(isa)) {
  const size_t bytes = value_bytes() + num_scales() * sizeof(uint16_t) * (format_.has_mins ? 2 : 1);
  tile_bytes_ = (bytes + kCacheLineBytes - 1) / kCacheLineBytes * kCacheLineBytes;
}

absl::StatusOr<std::unique_ptr<QuantizedWeight>> QuantizedWeight::Pack(ThreadPool& pool,
                                                                       const WeightSource& source,
                                                                       Isa isa) {
  auto weight = absl::WrapUnique(new QuantizedWeight(source, isa, MultiplierOf(pool, source)));
  KVEC_ASSIGN_OR_RETURN(
      weight->data_,
      AlignedBuffer::Allocate(weight->tile_bytes_ * weight->num_tiles(), PageSize::kHuge));
  pool.ParallelFor(weight->num_tiles(), [&](int tile) { weight->PackTile(source, tile); });
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
  std::memset(values, 0, tile_bytes_);  // features beyond the last one
  auto* scales = reinterpret_cast<uint16_t*>(values + value_bytes());
  uint16_t* mins = scales + num_scales();
  const int num_features = std::min(kTileFeatures, out_features_ - tile * kTileFeatures);
  const int parts = kBlockInputs / format_.scale_inputs;
  UnsignedBlock block;
  for (int feature = 0; feature < num_features; ++feature) {
    const uint8_t* row = RowOf(source, tile * kTileFeatures + feature);
    for (int i = 0; i < num_blocks(); ++i) {
      DecodeUnsignedBlock(source.type, row, i, block);
      const int lines = kBlockInputs / 4 * format_.bits / 8;
      for (int line = 0; line < lines; ++line) {
        const uint32_t word = PackedWord(block, format_.bits, line);
        std::memcpy(values + ((i * lines + line) * kTileFeatures + feature) * 4, &word, 4);
      }
      for (int part = 0; part < parts; ++part) {
        const int index = (i * parts + part) * kTileFeatures + feature;
        scales[index] = FloatToHalf(block.scale[part] / multiplier_);
        if (format_.has_mins) mins[index] = FloatToHalf(block.min[part] / multiplier_);
      }
    }
  }
}

size_t QuantizedWeight::panel_bytes() const {
  return PanelBlockBytes(format_.scale_inputs, kernels_.panel_number_bytes) *
         (32 / format_.scale_inputs);
}

size_t QuantizedWeight::ScratchBytes(int num_rows) const {
  if (num_rows <= kernels_.max_tile_rows) return 0;
  return kernels_.panel_blocks * panel_bytes() + sizeof(float) * kPanelFeatures * num_rows;
}

void QuantizedWeight::MultiplyTiles(const MatMulOperands& operands, int panel,
                                    RowRange rows) const {
  for (int tile = 2 * panel; tile < std::min(2 * panel + 2, num_tiles()); ++tile) {
    ProductOutput output = OutputOf(operands, rows, tile * kTileFeatures);
    output.multiplier = multiplier_;
    kernels_.multiply_tile({.format = format_,
                            .tile = Tile(tile, 0),
                            .num_blocks = num_blocks(),
                            .x = operands.rounded_x + int64_t{rows.begin} * num_blocks(),
                            .x_stride = num_blocks(),
                            .num_rows = rows.count,
                            .output = output});
  }
}

void QuantizedWeight::MultiplyPanel(const MatMulOperands& operands, int panel, int next_panel,
                                    RowRange rows, uint8_t* scratch) const {
  if (rows.count <= kernels_.max_tile_rows) return MultiplyTiles(operands, panel, rows);
  // An odd number of tiles: the last is there twice, and its second results go nowhere.
  const int tiles[2] = {2 * panel, std::min(2 * panel + 1, num_tiles() - 1)};
  const bool has_next = next_panel < num_panels();
  PanelProduct product{
      .panel = scratch,
      .scale_inputs = format_.scale_inputs,
      .num_blocks = 0,
      .x = nullptr,
      .x_stride = num_blocks(),
      .num_rows = rows.count,
      .ahead = has_next ? Tile(2 * next_panel, 0).values : nullptr,
      .ahead_bytes = has_next ? 2 * tile_bytes_ : 0,
      .partial_sums = reinterpret_cast<float*>(scratch + kernels_.panel_blocks * panel_bytes()),
      .is_first = true,
      .is_last = false,
      .output = OutputOf(operands, rows, panel * kPanelFeatures)};
  product.output.multiplier = multiplier_;
  for (int block = 0; block < num_blocks(); block += kernels_.panel_blocks) {
    product.num_blocks = std::min(kernels_.panel_blocks, num_blocks() - block);
    for (int i = 0; i < 2; ++i) {
      kernels_.unpack(format_, Tile(tiles[i], block), product.num_blocks, i, scratch);
    }
    product.x = operands.rounded_x + int64_t{rows.begin} * num_blocks() + block;
    product.is_last = block + product.num_blocks == num_blocks();
    kernels_.multiply_panel(product);
    product.is_first = false;
    product.ahead_bytes = 0;
  }
}

}  // namespace kvec::kernels::cpu
