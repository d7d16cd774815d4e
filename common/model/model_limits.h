#ifndef KVEC_COMMON_MODEL_MODEL_LIMITS_H_
#define KVEC_COMMON_MODEL_MODEL_LIMITS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "common/model/model_config.h"

namespace kvec {

// What a size in a model's configuration may be at most: well beyond known models, and small enough
// that the products which size buffers fit in 64 bits.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxHiddenSize = 1 << 20;  // and intermediate_size, and heads × head_dim
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxVocabSize = 1 << 24;
inline constexpr int64_t kMaxContextLength = 1 << 27;

// Checks a configuration, whichever file it is from: all sizes positive and within the limits,
// fields consistent with each other. INVALID_ARGUMENT names field and value.
absl::Status CheckModelConfig(const ModelConfig& config);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_MODEL_LIMITS_H_
