#ifndef KVEC_KERNELS_CUDA_WEIGHT_TYPE_H_
#define KVEC_KERNELS_CUDA_WEIGHT_TYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace kvec::kernels::cuda {

// Of weights on the GPU, whatever the file has, and of what is multiplied by them. Of 8 bits, every
// row has a scale: x's own when it comes, a weight's from when it is loaded.
enum class WeightType : uint8_t {
  kBF16,
  kInt8,  // a row's largest number is 127
  kFp8    // e4m3; a row's largest number is 448
};

inline absl::string_view WeightTypeName(WeightType type) {
  switch (type) {
    case WeightType::kBF16:
      return "bf16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kFp8:
      return "fp8";
  }
  return "";
}

// What cuBLASLt asks of both features of a product of 8 bits (its int8 kernels ask for 4).
inline constexpr int kEightBitMultiple = 16;

inline int RoundUpToEightBitMultiple(int features) {
  return (features + kEightBitMultiple - 1) / kEightBitMultiple * kEightBitMultiple;
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WEIGHT_TYPE_H_
