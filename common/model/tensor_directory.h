#ifndef KVEC_COMMON_MODEL_TENSOR_DIRECTORY_H_
#define KVEC_COMMON_MODEL_TENSOR_DIRECTORY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/model_files.h"

namespace kvec {

// The checks that the directories of GGUF and safetensors files share.

// Bytes of a tensor. INVALID_ARGUMENT for a dimension below 1, a product that overflows, and rows
// that are no multiple of the type's block.
absl::StatusOr<uint64_t> TensorBytes(const FileTensor& tensor);

// Points `tensor` at its bytes, which begin at `offset` of `data`. INVALID_ARGUMENT when they do
// not lie in `data`.
absl::Status AttachData(FileTensor& tensor, absl::Span<const uint8_t> data, uint64_t offset);

// INVALID_ARGUMENT for a name that is there twice, and for tensors with bytes in common.
absl::Status CheckDirectory(absl::Span<const FileTensor> tensors);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_TENSOR_DIRECTORY_H_
