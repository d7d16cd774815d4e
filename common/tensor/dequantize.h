#ifndef KVEC_COMMON_TENSOR_DEQUANTIZE_H_
#define KVEC_COMMON_TENSOR_DEQUANTIZE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "common/tensor/float_conversions.h"
#include "common/tensor/tensor_type.h"

namespace kvec {

// Decodes out.size() numbers of `type` from `data`, exactly as ggml's reference does. out.size()
// must be a multiple of the type's block, and data.size() == RowBytes(type, out.size()).
void Dequantize(TensorType type, absl::Span<const uint8_t> data, absl::Span<float> out);

}  // namespace kvec

#endif  // KVEC_COMMON_TENSOR_DEQUANTIZE_H_
