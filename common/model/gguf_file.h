#ifndef KVEC_COMMON_MODEL_GGUF_FILE_H_
#define KVEC_COMMON_MODEL_GGUF_FILE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/gguf_metadata.h"
#include "common/model/model_files.h"

namespace kvec {

// The metadata and the tensor directory of a GGUF file, versions 2 and 3, little endian. A view of
// the bytes it was parsed from. It knows the container only; gguf_config and gguf_tokenizer know
// what the metadata means.
class GgufFile {
 public:
  // Checks every count, length, type and offset. INVALID_ARGUMENT names the field and the value.
  static absl::StatusOr<GgufFile> Parse(absl::Span<const uint8_t> bytes);

  const GgufMetadata& metadata() const { return metadata_; }

  // In the order of the file; names are unique, data spans lie in the file and do not overlap.
  const std::vector<FileTensor>& tensors() const { return tensors_; }

 private:
  GgufFile() = default;

  GgufMetadata metadata_;
  std::vector<FileTensor> tensors_;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_FILE_H_
