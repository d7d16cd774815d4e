#ifndef KVEC_COMMON_MODEL_HF_ROPE_H_
#define KVEC_COMMON_MODEL_HF_ROPE_H_

#include "absl/status/status.h"
#include "common/model/json_fields.h"
#include "common/model/model_config.h"

namespace kvec {

// Reads rotary embedding's fields of a config.json into config.rope and config.local_rope, in both
// forms: rope_theta with rope_scaling, and rope_parameters (transformers 5). The family and the
// sizes in `config` must be set. INVALID_ARGUMENT names field and value.
absl::Status ReadHfRope(const JsonFields& fields, ModelConfig& config);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_ROPE_H_
