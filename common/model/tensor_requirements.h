#ifndef KVEC_COMMON_MODEL_TENSOR_REQUIREMENTS_H_
#define KVEC_COMMON_MODEL_TENSOR_REQUIREMENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "common/model/model_config.h"

namespace kvec {

struct TensorRequirement {
  std::string name;            // GGUF's
  std::vector<int64_t> shape;  // outermost first
};

// Every tensor that a model of this configuration reads.
std::vector<TensorRequirement> RequiredTensors(const ModelConfig& config);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_TENSOR_REQUIREMENTS_H_
