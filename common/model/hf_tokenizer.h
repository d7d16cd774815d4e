#ifndef KVEC_COMMON_MODEL_HF_TOKENIZER_H_
#define KVEC_COMMON_MODEL_HF_TOKENIZER_H_

#include <string>

#include "absl/status/statusor.h"
#include "common/model/tokenizer_data.h"
#include "nlohmann/json.hpp"

namespace kvec {

// The tokenizer of a Hugging Face folder: the text of tokenizer.json, and from
// tokenizer_config.json, chat_template.jinja, generation_config.json and `config_json` what
// TokenizerData lists.
absl::StatusOr<TokenizerData> ReadHfTokenizer(const std::string& folder,
                                              const nlohmann::json& config_json, int vocab_size);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_HF_TOKENIZER_H_
