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

// Features of a product of 8 bits are rounded up to a multiple of what cuBLASLt's fp8 asks for (its
// int8 asks for 4).
inline constexpr int kEightBitFeatures = 16;
// Rows of x as well: for 16 or fewer cuBLASLt has had no algorithm in int8 (PyTorch pads to 32,
// too), and a row's algorithm then depends less on how many there are.
inline constexpr int kEightBitRows = 32;

inline int RoundUpToMultiple(int number, int of) { return (number + of - 1) / of * of; }

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_WEIGHT_TYPE_H_
