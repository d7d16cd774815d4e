#ifndef KVEC_COMMON_MODEL_HF_MODEL_H_
#define KVEC_COMMON_MODEL_HF_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_files.h"

namespace kvec {

// ModelFiles::Open for a Hugging Face folder.
absl::StatusOr<std::unique_ptr<ModelFiles>> OpenHfModel(const std::string& folder);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_MODEL_H_
