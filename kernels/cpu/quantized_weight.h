#ifndef KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_
#define KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/matmul_kernels.h"
#include "kernels/device.h"

namespace kvec::kernels::cpu {

// Rows of a quantised tensor, repacked for matmul_kernels.h: tiles of 16 output features, each
// tile's values first, then its scales, then its mins. Values keep all their bits; 5 and 6 bits
// become 8. Scales are float16 times one power of two for the whole weight, so that none overflows;
// that is exact for all types but the K types, whose scales (a half times an integer) are rounded
// to 11 bits: a relative error of 2^-12 at most, a tenth of what quantising the activations costs.
//
// Immutable once made.
class QuantizedWeight {
 public:
  // `source` is quantised and consistent; PrepareWeight has checked it.
  static absl::StatusOr<QuantizedWeight> Pack(const WeightSource& source);

  int out_features() const { return out_features_; }
  int in_features() const { return in_features_; }
  int num_blocks() const { return in_features_ / 32; }
  int num_tiles() const { return (out_features_ + kTileFeatures - 1) / kTileFeatures; }
  size_t bytes() const { return data_.bytes(); }
  size_t tile_bytes() const { return tile_bytes_; }
  const PackedFormat& format() const { return format_; }
  float multiplier() const { return multiplier_; }  // of every sum

  // Tile `index`, from input 32 · block on.
  PackedTile Tile(int index, int block) const;

 private:
  QuantizedWeight() = default;

  void PackTile(const WeightSource& source, int tile);

  // Of one tile.
  size_t value_bytes() const { return size_t{kTileFeatures} * in_features_ * format_.bits / 8; }
  size_t num_scales() const {
    return size_t{kTileFeatures} * (in_features_ / format_.scale_inputs);
  }

  int out_features_ = 0;
  int in_features_ = 0;
  PackedFormat format_{};
  float multiplier_ = 1;
  size_t tile_bytes_ = 0;
  AlignedBuffer data_;  // [num_tiles, tile_bytes]
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_QUANTIZED_WEIGHT_H_
