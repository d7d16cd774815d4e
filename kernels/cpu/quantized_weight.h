#ifndef KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_
#define KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace kvec::kernels::cpu {

// Rows of a quantised tensor, repacked for matmul_kernels.h: tiles of 16 output features, each
// tile's values first, then its scales, then its mins. Values keep all their bits; 5 and 6 bits
// become 8. Scales are float16 times one power of two for the whole weight, so that none overflows;
// that is exact for all types but the K types, whose scales (a half times an integer) are rounded
// to 11 bits: a relative error of 2^-12 at most, a tenth of what quantising the activations costs.
class QuantizedWeight final : public PackedWeight {
 public:
  // `source` is quantised and consistent; PrepareWeight has checked it. RESOURCE_EXHAUSTED when the
  // memory is not there.
  static absl::StatusOr<std::unique_ptr<QuantizedWeight>> Pack(ThreadPool& pool,
                                                               const WeightSource& source, Isa isa);

  int out_features() const override { return out_features_; }
  int in_features() const override { return in_features_; }
  size_t bytes() const override { return data_.bytes(); }
  bool rounds_activations() const override { return true; }
  size_t ScratchBytes(int num_rows) const override;
  void MultiplyPanel(const MatMulOperands& operands, int panel, int next_panel, RowRange rows,
                     uint8_t* scratch) const override;

 private:
  QuantizedWeight(const WeightSource& source, Isa isa, float multiplier);

  void PackTile(const WeightSource& source, int tile);
  void MultiplyTiles(const MatMulOperands& operands, int panel, RowRange rows) const;

  // Tile `index`, from input 32 · block on.
  PackedTile Tile(int index, int block) const;

  int num_blocks() const { return in_features_ / 32; }
  int num_tiles() const { return (out_features_ + kTileFeatures - 1) / kTileFeatures; }
  size_t panel_bytes() const;  // of a block of 32 inputs
  // Of one tile.
  size_t value_bytes() const { return size_t{kTileFeatures} * in_features_ * format_.bits / 8; }
  size_t num_scales() const {
    return size_t{kTileFeatures} * (in_features_ / format_.scale_inputs);
  }

  const int out_features_;
  const int in_features_;
  const PackedFormat format_;
  const float multiplier_;  // of every sum
  const MatMulKernels& kernels_;
  size_t tile_bytes_;
  AlignedBuffer data_;  // [num_tiles, tile_bytes]
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_
