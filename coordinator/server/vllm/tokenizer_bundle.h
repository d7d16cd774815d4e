#ifndef KVEC_COORDINATOR_SERVER_VLLM_TOKENIZER_BUNDLE_H_
#define KVEC_COORDINATOR_SERVER_VLLM_TOKENIZER_BUNDLE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/model/model_config.h"
#include "common/model/tokenizer_data.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::server::vllm {

// A family as Hugging Face's config.json names it.
struct FamilyNames {
  absl::string_view model_type;
  absl::string_view architecture;
};
FamilyNames NamesOf(ModelFamily family);

// All that a gateway needs to turn text and chats into this model's token ids: a zip archive of
// tokenizer.json, tokenizer_config.json and config.json. `tokenizer` is made of `data`, which is
// checked. The errors of ZipArchive.
absl::StatusOr<std::string> MakeTokenizerBundle(const TokenizerData& data,
                                                const text::Tokenizer& tokenizer,
                                                const ModelConfig& config);

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_TOKENIZER_BUNDLE_H_
