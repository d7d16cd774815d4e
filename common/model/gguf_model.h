#ifndef KVEC_COMMON_MODEL_GGUF_MODEL_H_
#define KVEC_COMMON_MODEL_GGUF_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_files.h"

namespace kvec {

// ModelFiles::Open for a GGUF file.
absl::StatusOr<std::unique_ptr<ModelFiles>> OpenGgufModel(const std::string& path);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_MODEL_H_
