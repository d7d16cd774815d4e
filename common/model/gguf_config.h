#ifndef KVEC_COMMON_MODEL_GGUF_CONFIG_H_
#define KVEC_COMMON_MODEL_GGUF_CONFIG_H_

#include "absl/status/statusor.h"
#include "common/model/gguf_file.h"
#include "common/model/model_config.h"

namespace kvec {

// What the metadata of a GGUF file, and the tensors that stand for metadata (rope_freqs.weight, the
// absence of output.weight), say of the model. INVALID_ARGUMENT names key and value.
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_CONFIG_H_
