#ifndef KVEC_COMMON_MODEL_HF_TENSOR_NAMES_H_
#define KVEC_COMMON_MODEL_HF_TENSOR_NAMES_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/model/model_config.h"

namespace kvec {

// GGUF's name for a tensor of a Hugging Face checkpoint: "model.layers.3.mlp.up_proj.weight" is
// "blk.3.ffn_up.weight". Nothing for tensors that the language model does not read (a vision tower,
// buffers).
std::optional<std::string> GgufTensorName(absl::string_view hf_name, ModelFamily family);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_TENSOR_NAMES_H_
