#include "common/model/model_files.h"

#include <filesystem>
#include <system_error>

#include "common/model/gguf_model.h"
#include "common/model/hf_model.h"

namespace kvec {

absl::StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(const std::string& path) {
  // An error here (a missing path) comes up again, with its reason, when the file is opened.
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenHfModel(path);
  return OpenGgufModel(path);
}

}  // namespace kvec
