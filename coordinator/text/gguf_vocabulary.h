#ifndef KVEC_COORDINATOR_TEXT_GGUF_VOCABULARY_H_
#define KVEC_COORDINATOR_TEXT_GGUF_VOCABULARY_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "common/model/tokenizer_data.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {

// kNormal where the file gives no types.
inline TokenizerData::TokenType TokenTypeOf(const TokenizerData& data, size_t id) {
  return data.token_types.empty() ? TokenizerData::kNormal
                                  : static_cast<TokenizerData::TokenType>(data.token_types[id]);
}

// The checks and fields that both kinds of GGUF vocabulary share. token_bytes are the tokens as
// stored; user-defined tokens are not among the special tokens: the kinds treat them differently.
absl::StatusOr<Vocabulary> ReadGgufVocabulary(const TokenizerData& data);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_GGUF_VOCABULARY_H_
