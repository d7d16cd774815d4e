// The kernels for any processor, and the ones that the others are tested against.
#include <cmath>
#include <cstring>

#include "common/tensor/dequantize.h"
#include "kernels/cpu/activation_block-inl.h"
#include "kernels/cpu/matmul_kernels.h"

namespace kvec::kernels::cpu {
namespace {

void Quantize(const float* x, int num_blocks, ActivationBlock* out) {
  for (int block = 0; block < num_blocks; ++block, x += 32, ++out) {
    float maximum = 0;
    for (int i = 0; i < 32; ++i) maximum = std::fmax(maximum, std::fabs(x[i]));
    const BlockScale scale = ScaleOf(maximum);
    int sums[2] = {0, 0};
    for (int i = 0; i < 32; ++i) {
      const int value = static_cast<int>(std::lrintf(x[i] * scale.inverse));
      out->low()[i] = static_cast<int8_t>(value);
      out->high()[i] = static_cast<int8_t>((value - out->low()[i]) / 256);
      sums[i / 16] += value;
    }
    SetScaleAndSums(scale.scale, sums[0], sums[1], *out);
  }
}

void Unpack(const PackedFormat& format, const PackedTile& tile, int num_blocks, int index,
            uint8_t* panel) {
  constexpr int kLineBytes = 64;
  const int num_scales = num_blocks * (32 / format.scale_inputs);
  const uint8_t* line = tile.values;
  for (int block = 0; block < num_scales; ++block) {
    uint8_t* out = panel + index * kLineBytes;
    for (int word = 0; word < format.scale_inputs / 4; ++word, out += 2 * kLineBytes) {
      const int shift = format.bits == 4 ? (word % 2) * 4 : 0;
      const uint8_t mask = format.bits == 4 ? 0x0F : 0xFF;
      for (int i = 0; i < kLineBytes; ++i) out[i] = (line[i] >> shift) & mask;
      if (format.bits == 8 || word % 2 == 1) line += kLineBytes;
    }
    for (int feature = 0; feature < kTileFeatures; ++feature) {
      const int i = block * kTileFeatures + feature;
      const float scale = HalfToFloat(tile.scales[i]);
      const float min = format.has_mins ? HalfToFloat(tile.mins[i]) : scale * format.min_per_scale;
      std::memcpy(out + feature * sizeof(float), &scale, sizeof(scale));
      std::memcpy(out + 2 * kLineBytes + feature * sizeof(float), &min, sizeof(min));
    }
    panel += PanelBlockBytes(format.scale_inputs, 1);
  }
}

void Finish(const float* sums, const ProductOutput& output, int row) {
  float* y = output.y + row * output.stride;
  for (int feature = 0; feature < output.num_features; ++feature) {
    float result = sums[feature] * output.multiplier;
    if (output.bias != nullptr) result += output.bias[feature];
    y[feature] = output.accumulate ? y[feature] + result : result;
  }
}

// sums += one block of a panel times the activations from `first` on.
void MultiplyBlock(const uint8_t* panel, int scale_inputs, const ActivationBlock& x, int first,
                   float x_sum, float* sums) {
  int32_t dots[kPanelFeatures] = {};
  for (int input = 0; input < scale_inputs; input += 4, panel += 4 * kPanelFeatures) {
    for (int feature = 0; feature < kPanelFeatures; ++feature) {
      const uint8_t* weights = panel + feature * 4;
      for (int i = 0; i < 4; ++i) {
        const int value = x.high()[first + input + i] * 256 + x.low()[first + input + i];
        dots[feature] += weights[i] * value;
      }
    }
  }
  float scales[kPanelFeatures];
  float mins[kPanelFeatures];
  std::memcpy(scales, panel, sizeof(scales));
  std::memcpy(mins, panel + sizeof(scales), sizeof(mins));
  for (int feature = 0; feature < kPanelFeatures; ++feature) {
    sums[feature] += static_cast<float>(dots[feature]) * (scales[feature] * x.scale);
    sums[feature] += mins[feature] * x_sum;
  }
}

void MultiplyPanel(const PanelProduct& product) {
  const int parts = 32 / product.scale_inputs;
  const size_t block_bytes = PanelBlockBytes(product.scale_inputs, 1);
  for (int row = 0; row < product.num_rows; ++row) {
    float sums[kPanelFeatures] = {};
    float* partial = product.partial_sums + row * kPanelFeatures;
    if (!product.is_first) std::memcpy(sums, partial, sizeof(sums));
    for (int block = 0; block < product.num_blocks; ++block) {
      const ActivationBlock& x = product.x[row * product.x_stride + block];
      for (int part = 0; part < parts; ++part) {
        MultiplyBlock(product.panel + (block * parts + part) * block_bytes, product.scale_inputs, x,
                      part * product.scale_inputs, parts == 1 ? x.sum : x.half_sums[part], sums);
      }
    }
    if (product.is_last) {
      Finish(sums, product.output, row);
    } else {
      std::memcpy(partial, sums, sizeof(sums));
    }
  }
}

constexpr MatMulKernels kKernels = {.quantize = Quantize,
                                    .unpack = Unpack,
                                    .multiply_panel = MultiplyPanel,
                                    .panel_number_bytes = 1,
                                    .panel_blocks = 24,
                                    .multiply_tile = nullptr,
                                    .max_tile_rows = 0};

}  // namespace

const MatMulKernels& ScalarMatMulKernels() { return kKernels; }

}  // namespace kvec::kernels::cpu
