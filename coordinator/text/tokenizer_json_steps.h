#ifndef KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_STEPS_H_
#define KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_STEPS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/text/normalizer.h"
#include "coordinator/text/pre_tokenizer.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {

// What a tokenizer.json does to text before its model sees it.
struct TokenizerJsonSteps {
  std::vector<NormalizerStep> normalizer;
  std::vector<SplitRule> rules;
  bool is_byte_level = false;
};

// Reads "normalizer" and "pre_tokenizer" (null where the file has none). INVALID_ARGUMENT for a
// type or an option that is not supported lists what is.
absl::StatusOr<TokenizerJsonSteps> ReadTokenizerJsonSteps(const nlohmann::json& normalizer,
                                                          const nlohmann::json& pre_tokenizer);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_TOKENIZER_JSON_STEPS_H_
