#ifndef KVEC_COMMON_TENSOR_TENSOR_TYPE_H_
#define KVEC_COMMON_TENSOR_TENSOR_TYPE_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace kvec {

// How the numbers of a tensor in a model file are encoded. The quantised types are GGUF's; each
// stores a row as consecutive blocks of block_elements numbers.
enum class TensorType : uint8_t {
  kF32, kF16, kBF16, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ5_K, kQ6_K,
};

struct TensorTypeTraits {
  absl::string_view name;   // as in GGUF tools: "Q4_K"
  int block_elements;       // 1 for the dense types
  size_t block_bytes;
};

const TensorTypeTraits& GetTraits(TensorType type);

// "F32, F16, … Q6_K": for messages about a type that is none of these.
absl::string_view KnownTensorTypeNames();

inline bool IsQuantized(TensorType type) { return GetTraits(type).block_elements > 1; }

// Bytes of a row of `num_elements`, which must be a multiple of the block.
inline size_t RowBytes(TensorType type, int64_t num_elements) {
  const TensorTypeTraits& traits = GetTraits(type);
  return static_cast<size_t>(num_elements / traits.block_elements) * traits.block_bytes;
}

}  // namespace kvec

#endif  // KVEC_COMMON_TENSOR_TENSOR_TYPE_H_
