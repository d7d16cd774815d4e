#ifndef KVEC_COMMON_MODEL_GGUF_TOKENIZER_H_
#define KVEC_COMMON_MODEL_GGUF_TOKENIZER_H_

#include "absl/status/statusor.h"
#include "common/model/gguf_metadata.h"
#include "common/model/tokenizer_data.h"

namespace kvec {

// The vocabulary in a GGUF file's tokenizer.* keys. INVALID_ARGUMENT names key and value: a kind
// that is not known, arrays of different lengths, an id outside the vocabulary of `vocab_size`.
absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufMetadata& metadata, int vocab_size);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_GGUF_TOKENIZER_H_
