#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "coordinator/text/byte_piece.h"
#include "coordinator/text/gguf_vocabulary.h"
#include "coordinator/text/sentence_piece_model.h"
#include "coordinator/text/vocabulary.h"

namespace kvec::coordinator::text {
namespace {

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

// What unknown characters become; a vocabulary must have one.
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

  SentencePieceModel::Options options;
  options.unknown_id = unknown_id;
  options.add_space_prefix = data.add_space_prefix;
  std::array<int32_t, 256> byte_ids = {};
  int num_byte_pieces = 0;
  for (size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const TokenizerData::TokenType type = TokenTypeOf(data, i);
    if (type == TokenizerData::kByte) {
      KVEC_ASSIGN_OR_RETURN(const char byte, ParseBytePiece(data.tokens[i]));
      vocabulary.token_bytes[i] = std::string(1, byte);
      byte_ids[static_cast<uint8_t>(byte)] = id;
      ++num_byte_pieces;
      continue;
    }
    if (vocabulary.is_control[i]) continue;
    vocabulary.token_bytes[i] = absl::StrReplaceAll(data.tokens[i], {{kSpaceSymbol, " "}});
    // GGUF files call the unknown piece a control token.
    if (id == unknown_id || type == TokenizerData::kUnknown) continue;
    // User-defined pieces are stored with plain spaces.
    std::string piece = absl::StrReplaceAll(data.tokens[i], {{" ", kSpaceSymbol}});
    if (type == TokenizerData::kUserDefined) {
      KVEC_RETURN_IF_ERROR(
          options.user_defined.Add(piece, id, SpecialTokenMatcher::Kind::kUserDefined));
    }
    options.pieces.try_emplace(
        std::move(piece),
        SentencePieceModel::Piece{id, data.scores[i], type == TokenizerData::kUnused});
  }
  if (num_byte_pieces == 256) options.byte_ids = byte_ids;
  return VocabularyAndModel{std::move(vocabulary),
                            std::make_unique<SentencePieceModel>(std::move(options))};
}

}  // namespace kvec::coordinator::text
