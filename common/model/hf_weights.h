#ifndef KVEC_COMMON_MODEL_HF_WEIGHTS_H_
#define KVEC_COMMON_MODEL_HF_WEIGHTS_H_

#include <string>

#include "absl/status/status.h"
#include "common/model/mapped_model.h"

namespace kvec {

// Maps the safetensors files of a folder (those that model.safetensors.index.json lists, else
// model.safetensors, else all there are) and puts the tensors that parts.config's family reads,
// under GGUF's names, into `parts`.
absl::Status ReadHfWeights(const std::string& folder, MappedModel::Parts& parts);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_WEIGHTS_H_
