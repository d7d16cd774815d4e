#ifndef KVEC_COMMON_MODEL_FINGERPRINT_H_
#define KVEC_COMMON_MODEL_FINGERPRINT_H_

#include <string>

#include "absl/types/span.h"
#include "common/model/model_config.h"
#include "common/model/model_files.h"
#include "common/model/tokenizer_data.h"

namespace kvec {

// Hex SHA-256 over the configuration, the tokenizer, the names, types and shapes of the tensors,
// and a few kilobytes of each tensor's data: tells models apart in milliseconds, however large they
// are.
std::string Fingerprint(const ModelConfig& config, const TokenizerData& tokenizer,
                        absl::Span<const FileTensor> tensors);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_FINGERPRINT_H_
