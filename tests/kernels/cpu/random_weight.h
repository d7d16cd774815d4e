#ifndef KVEC_TESTS_KERNELS_CPU_RANDOM_WEIGHT_H_
#define KVEC_TESTS_KERNELS_CPU_RANDOM_WEIGHT_H_

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "common/tensor/dequantize.h"
#include "common/tensor/tensor_type.h"
#include "kernels/device.h"

namespace kvec::kernels::cpu {

// A weight of any type with random bits, but scales and minimums of ordinary size.
class RandomWeight {
 public:
  RandomWeight(TensorType type, int num_rows, int in_features, uint32_t seed)
      : type_(type), num_rows_(num_rows), in_features_(in_features) {
    std::mt19937 random(seed);
    data_.resize(RowBytes(type, in_features) * num_rows);
    const TensorTypeTraits& traits = GetTraits(type);
    for (uint8_t* block = data_.data(); block < data_.data() + data_.size();
         block += traits.block_bytes) {
      FillBlock(block, traits.block_bytes, random);
    }
  }

  WeightSource source() const { return {type_, num_rows_, in_features_, data_}; }

  // [num_rows, in_features]
  std::vector<float> Dequantized() const {
    std::vector<float> weights(static_cast<size_t>(num_rows_) * in_features_);
    Dequantize(type_, data_, absl::MakeSpan(weights));
    return weights;
  }

 private:
  static void StoreHalf(float value, uint8_t* bytes) {
    const uint16_t half = FloatToHalf(value);
    std::memcpy(bytes, &half, sizeof(half));
  }

  void FillBlock(uint8_t* block, size_t bytes, std::mt19937& random) const {
    std::uniform_real_distribution<float> uniform(0.5f, 1.5f);
    std::normal_distribution<float> normal(0, 0.05f);
    const float value = normal(random);
    for (size_t i = 0; i < bytes; ++i) block[i] = static_cast<uint8_t>(random());
    switch (type_) {
      case TensorType::kF32:
        std::memcpy(block, &value, sizeof(value));
        return;
      case TensorType::kF16:
        return StoreHalf(value, block);
      case TensorType::kBF16: {
        const uint16_t bits = FloatToBFloat16(value);
        std::memcpy(block, &bits, sizeof(bits));
        return;
      }
      case TensorType::kQ4_0:
      case TensorType::kQ5_0:
        return StoreHalf(0.01f * uniform(random), block);
      case TensorType::kQ8_0:
        return StoreHalf(0.001f * uniform(random), block);
      case TensorType::kQ4_1:
      case TensorType::kQ5_1:
        StoreHalf(0.01f * uniform(random), block);
        return StoreHalf(-0.08f * uniform(random), block + 2);
      case TensorType::kQ4_K:
      case TensorType::kQ5_K:
        StoreHalf(3e-4f * uniform(random), block);
        return StoreHalf(2e-3f * uniform(random), block + 2);
      case TensorType::kQ6_K:
        return StoreHalf(3e-5f * uniform(random), block + 208);
    }
  }

  TensorType type_;
  int num_rows_;
  int in_features_;
  std::vector<uint8_t> data_;
};

}  // namespace kvec::kernels::cpu

#endif  // KVEC_TESTS_KERNELS_CPU_RANDOM_WEIGHT_H_
