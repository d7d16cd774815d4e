#include "common/model/gguf_tokenizer.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/end_tokens.h"
#include "common/model/error_text.h"
#include "common/model/model_limits.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

// Of two tokens at most one merge can make a third, but files list several ways to the same token.
constexpr uint64_t kMaxMerges = 4 * kMaxVocabSize;

template <typename T>
absl::Status CheckCount(absl::string_view key, const std::vector<T>& values, size_t vocab_size) {
  if (values.size() == vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      key, ": has ", values.size(), " elements, the embedding has ", vocab_size, " rows"));
}

absl::Status ReadTokens(const GgufMetadata& metadata, size_t vocab_size, TokenizerData& data) {
  constexpr absl::string_view kTokens = "tokenizer.ggml.tokens";
  constexpr absl::string_view kTypes = "tokenizer.ggml.token_type";
  KVEC_ASSIGN_OR_RETURN(data.tokens, metadata.Strings(kTokens, kMaxVocabSize));
  KVEC_RETURN_IF_ERROR(CheckCount(kTokens, data.tokens, vocab_size));
  if (!metadata.Has(kTypes)) {
    data.token_types.assign(vocab_size, TokenizerData::kNormal);
    return absl::OkStatus();
  }
  KVEC_ASSIGN_OR_RETURN(data.token_types, metadata.Int32s(kTypes, kMaxVocabSize));
  KVEC_RETURN_IF_ERROR(CheckCount(kTypes, data.token_types, vocab_size));
  for (size_t i = 0; i < vocab_size; ++i) {
    if (data.token_types[i] < TokenizerData::kNormal ||
        data.token_types[i] > TokenizerData::kByte) {
      return absl::InvalidArgumentError(
          absl::StrCat(kTypes, "[", i, "]: is ", data.token_types[i], ", must be in 1 … 6"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadMergesOrScores(const GgufMetadata& metadata, size_t vocab_size,
                                TokenizerData& data) {
  constexpr absl::string_view kMerges = "tokenizer.ggml.merges";
  constexpr absl::string_view kScores = "tokenizer.ggml.scores";
  if (data.kind == TokenizerData::Kind::kSentencePieceBpe) {
    KVEC_ASSIGN_OR_RETURN(data.scores, metadata.Float32s(kScores, kMaxVocabSize));
    return CheckCount(kScores, data.scores, vocab_size);
  }
  KVEC_ASSIGN_OR_RETURN(data.merges, metadata.Strings(kMerges, kMaxMerges));
  for (size_t i = 0; i < data.merges.size(); ++i) {
    // From 1: a token may begin with a space, the right one never does.
    const size_t space = data.merges[i].find(' ', 1);
    if (space == std::string::npos || space + 1 == data.merges[i].size()) {
      return absl::InvalidArgumentError(absl::StrCat(kMerges, "[", i, "]: ", Quoted(data.merges[i]),
                                                     " is not two tokens with a space between"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int32_t>> ReadId(const GgufMetadata& metadata, absl::string_view key,
                                              int64_t vocab_size) {
  if (!metadata.Has(key)) return std::nullopt;
  KVEC_ASSIGN_OR_RETURN(const int64_t id, metadata.Int(key, 0, vocab_size - 1));
  return static_cast<int32_t>(id);
}

absl::Status ReadSpecialIds(const GgufMetadata& metadata, int64_t vocab_size, TokenizerData& data) {
  KVEC_ASSIGN_OR_RETURN(data.bos_id, ReadId(metadata, "tokenizer.ggml.bos_token_id", vocab_size));
  KVEC_ASSIGN_OR_RETURN(data.unknown_id,
                        ReadId(metadata, "tokenizer.ggml.unknown_token_id", vocab_size));
  for (const absl::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                      "tokenizer.ggml.eom_token_id"}) {
    KVEC_ASSIGN_OR_RETURN(const std::optional<int32_t> id, ReadId(metadata, key, vocab_size));
    if (id.has_value()) data.eos_ids.push_back(*id);
  }
  for (int32_t id = 0; id < vocab_size; ++id) {
    const int32_t type = data.token_types[id];
    if (type != TokenizerData::kControl && type != TokenizerData::kUserDefined) continue;
    if (IsEndToken(data.tokens[id])) data.eos_ids.push_back(id);
  }
  SortAndDeduplicate(data.eos_ids);
  return absl::OkStatus();
}

// Defaults are llama.cpp's, where the files come from: SentencePiece models and Llama 3 begin with
// BOS unless they say otherwise.
absl::Status ReadSwitches(const GgufMetadata& metadata, TokenizerData& data) {
  const bool is_sentence_piece = data.kind == TokenizerData::Kind::kSentencePieceBpe;
  const bool is_llama3 = data.pre_tokenizer == "llama-bpe" || data.pre_tokenizer == "llama3" ||
                         data.pre_tokenizer == "llama-v3";
  KVEC_ASSIGN_OR_RETURN(data.add_bos, metadata.BoolOr("tokenizer.ggml.add_bos_token",
                                                      is_sentence_piece || is_llama3));
  KVEC_ASSIGN_OR_RETURN(data.add_eos, metadata.BoolOr("tokenizer.ggml.add_eos_token", false));
  KVEC_ASSIGN_OR_RETURN(data.add_space_prefix,
                        metadata.BoolOr("tokenizer.ggml.add_space_prefix", is_sentence_piece));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerData> ReadGgufTokenizer(const GgufMetadata& metadata, int vocab_size) {
  TokenizerData data;
  KVEC_ASSIGN_OR_RETURN(const std::string model, metadata.String("tokenizer.ggml.model"));
  if (model == "llama") {
    data.kind = TokenizerData::Kind::kSentencePieceBpe;
  } else if (model != "gpt2") {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.model: ", Quoted(model),
                     " is not supported; known: gpt2 (byte-level BPE), llama (SentencePiece BPE)"));
  }
  KVEC_ASSIGN_OR_RETURN(data.pre_tokenizer, metadata.StringOr("tokenizer.ggml.pre", "default"));
  KVEC_ASSIGN_OR_RETURN(data.chat_template, metadata.StringOr("tokenizer.chat_template", ""));
  KVEC_RETURN_IF_ERROR(ReadTokens(metadata, vocab_size, data));
  KVEC_RETURN_IF_ERROR(ReadMergesOrScores(metadata, vocab_size, data));
  KVEC_RETURN_IF_ERROR(ReadSpecialIds(metadata, vocab_size, data));
  KVEC_RETURN_IF_ERROR(ReadSwitches(metadata, data));
  return data;
}

}  // namespace kvec
