#include "coordinator/text/gguf_vocabulary.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::text {
namespace {

absl::Status CheckArrays(const TokenizerData& data) {
  if (data.tokens.empty()) {
    return absl::InvalidArgumentError("tokenizer.ggml.tokens: empty");
  }
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.token_type: ", data.token_types.size(), " entries for ",
                     data.tokens.size(), " tokens"));
  }
  for (size_t i = 0; i < data.token_types.size(); ++i) {
    if (data.token_types[i] < TokenizerData::kNormal ||
        data.token_types[i] > TokenizerData::kByte) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.token_type[", i, "]: unknown type ", data.token_types[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Vocabulary> ReadGgufVocabulary(const TokenizerData& data) {
  KVEC_RETURN_IF_ERROR(CheckArrays(data));
  Vocabulary vocabulary = {.token_bytes = data.tokens,
                           .is_control = std::vector<bool>(data.tokens.size()),
                           .bos_id = data.bos_id,
                           .eos_ids = data.eos_ids,
                           .add_bos = data.add_bos,
                           .add_eos = data.add_eos};
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (TokenTypeOf(data, i) != TokenizerData::kControl) continue;
    vocabulary.is_control[i] = true;
    KVEC_RETURN_IF_ERROR(vocabulary.special_tokens.Add(data.tokens[i], static_cast<int32_t>(i),
                                                       SpecialTokenMatcher::Kind::kControl));
  }
  KVEC_RETURN_IF_ERROR(CheckSpecialIds(vocabulary));
  return vocabulary;
}

}  // namespace kvec::coordinator::text
