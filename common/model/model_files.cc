#include "common/model/model_files.h"

#include "common/model/gguf_model.h"

namespace kvec {

absl::StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(const std::string& path) {
  return OpenGgufModel(path);
}

}  // namespace kvec
