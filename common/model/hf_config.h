#ifndef KVEC_COMMON_MODEL_HF_CONFIG_H_
#define KVEC_COMMON_MODEL_HF_CONFIG_H_

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "nlohmann/json.hpp"

namespace kvec {

// What a Hugging Face config.json says of a model. Knows model_type llama, mistral, qwen2, qwen3,
// gemma3_text, and gemma3, whose language model it describes. INVALID_ARGUMENT names field and
// value. A missing field has the default of transformers' configuration class.
absl::StatusOr<ModelConfig> ReadHfConfig(const nlohmann::json& config_json);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_CONFIG_H_
