#ifndef KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_MODEL_H_
#define KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_MODEL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {

// The "model" of a tokenizer.json. Its vocabulary and merges are most of the file: they are read
// from the parser's events, since as a document they would take a gigabyte.
struct TokenizerJsonModel {
  nlohmann::json fields;  // what is neither of the two: type, byte_fallback, unk_token …
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // token, id; as in the file
  std::vector<std::pair<std::string, std::string>> merges;  // left, right; best first
};

// `text` is JSON that ParseJson has accepted. INVALID_ARGUMENT names what in the model is wrong.
absl::StatusOr<TokenizerJsonModel> ReadTokenizerJsonModel(absl::string_view text);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_MODEL_H_
