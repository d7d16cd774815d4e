#ifndef KVEC_COMMON_MODEL_SAFETENSORS_FILE_H_
#define KVEC_COMMON_MODEL_SAFETENSORS_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/model/model_files.h"

namespace kvec {

// A tensor as a safetensors file lists it. Its type may be one that we do not know.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "BF16"
  std::vector<int64_t> shape;
  absl::Span<const uint8_t> data;
};

// Reads the directory of a safetensors file; the entries' data are views of `bytes`. Checks the
// header, and that the data of the entries cover the rest of the file without gaps or overlaps, as
// the format asks. INVALID_ARGUMENT names the tensor and the value.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(absl::Span<const uint8_t> bytes);

// The entry under another name. INVALID_ARGUMENT for a dtype that is not known, and for data of
// another size than the shape asks for.
absl::StatusOr<FileTensor> ToFileTensor(const SafetensorsEntry& entry, absl::string_view name);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_SAFETENSORS_FILE_H_
