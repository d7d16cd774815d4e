#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "coordinator/text/byte_piece.h"
#include "coordinator/text/gguf_vocabulary.h"
#include "coordinator/text/sentence_piece_processor.h"
#include "coordinator/text/sentence_piece_proto.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {
namespace {

class SentencePieceModel final : public SubwordModel {
 public:
  explicit SentencePieceModel(std::unique_ptr<SentencePieceProcessor> processor)
      : processor_(std::move(processor)) {}

  absl::Status Encode(absl::string_view text, Place, std::vector<int32_t>& ids) const override {
    std::vector<int> pieces;
    std::string error;
    if (!processor_->Encode({text.data(), text.size()}, pieces, error)) {
      return absl::InternalError(absl::StrCat("sentencepiece: ", error));
    }
    ids.insert(ids.end(), pieces.begin(), pieces.end());
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<SentencePieceProcessor> processor_;
};

absl::Status CheckScores(const TokenizerData& data) {
  if (data.scores.size() != data.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.scores: ", data.scores.size(),
                                                   " entries for ", data.tokens.size(), " tokens"));
  }
  for (size_t i = 0; i < data.scores.size(); ++i) {
    if (!std::isfinite(data.scores[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.scores[", i, "]: ", data.scores[i]));
    }
  }
  return absl::OkStatus();
}

// The piece that the library calls unknown: the only one of type UNKNOWN, and it must have one.
absl::StatusOr<int32_t> UnknownId(const TokenizerData& data) {
  if (data.unknown_id.has_value()) {
    if (*data.unknown_id >= 0 && static_cast<size_t>(*data.unknown_id) < data.tokens.size()) {
      return *data.unknown_id;
    }
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.unknown_token_id: ", *data.unknown_id, ", the vocabulary has ",
                     data.tokens.size()));
  }
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    if (TokenTypeOf(data, i) == TokenizerData::kUnknown) return static_cast<int32_t>(i);
  }
  return absl::InvalidArgumentError("tokenizer.ggml.unknown_token_id: missing");
}

}  // namespace

absl::StatusOr<VocabularyAndModel> LoadSentencePieceBpe(const TokenizerData& data) {
  KVEC_ASSIGN_OR_RETURN(Vocabulary vocabulary, ReadGgufVocabulary(data));
  KVEC_RETURN_IF_ERROR(CheckScores(data));
  KVEC_ASSIGN_OR_RETURN(const int32_t unknown_id, UnknownId(data));
  vocabulary.add_space_prefix = data.add_space_prefix;

  SentencePieceProto proto;
  int num_byte_pieces = 0;
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    TokenizerData::TokenType type = TokenTypeOf(data, i);
    if (static_cast<int32_t>(i) == unknown_id) {
      type = TokenizerData::kUnknown;  // GGUF files call it a control token
    } else if (type == TokenizerData::kUnknown) {
      type = TokenizerData::kUnused;
    }
    // User-defined pieces are stored with plain spaces.
    proto.AddPiece(absl::StrReplaceAll(data.tokens[i], {{" ", kSpaceSymbol}}), data.scores[i],
                   type);
    if (type == TokenizerData::kByte) {
      KVEC_ASSIGN_OR_RETURN(const char byte, ParseBytePiece(data.tokens[i]));
      vocabulary.token_bytes[i] = std::string(1, byte);
      ++num_byte_pieces;
    } else if (!vocabulary.is_control[i]) {
      vocabulary.token_bytes[i] = absl::StrReplaceAll(data.tokens[i], {{kSpaceSymbol, " "}});
    }
  }
  const std::string model = std::move(proto).Finish({.unknown_id = unknown_id,
                                                     .byte_fallback = num_byte_pieces == 256,
                                                     .add_space_prefix = data.add_space_prefix});
  std::string error;
  auto processor = SentencePieceProcessor::Create(model, error);
  if (processor == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.tokens: sentencepiece: ", error));
  }
  return VocabularyAndModel{std::move(vocabulary),
                            std::make_unique<SentencePieceModel>(std::move(processor))};
}

}  // namespace kvec::coordinator::text
