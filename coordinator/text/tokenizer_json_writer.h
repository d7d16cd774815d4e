#ifndef KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_WRITER_H_
#define KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_WRITER_H_

#include <string>

#include "absl/status/statusor.h"
#include "common/model/tokenizer_data.h"

namespace kvec::coordinator::text {

// A Hugging Face tokenizer.json that gives the same token ids as our own tokenizer: for others who
// tokenize for us. A folder's own file is returned as it is. The errors of Tokenizer::Create.
//
// SentencePiece joins equally good neighbours from the left, a tokenizer.json by the order of its
// merges; the ids can differ where two ways to join have the same score, and behind user-defined
// tokens of a model that puts a space before a text.
absl::StatusOr<std::string> WriteTokenizerJson(const TokenizerData& data);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_WRITER_H_
