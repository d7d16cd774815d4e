#ifndef KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROTO_H_
#define KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROTO_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "common/model/tokenizer_data.h"

namespace kvec::coordinator::text {

// Writes a sentencepiece.ModelProto. Debian ships the library without its .proto file; these are
// the few fields that a BPE model needs, in protobuf's wire format.
class SentencePieceProto {
 public:
  struct Settings {
    int32_t unknown_id = 0;
    bool byte_fallback = false;
    bool add_space_prefix = false;
  };

  void AddPiece(absl::string_view piece, float score, TokenizerData::TokenType type);

  // The whole message; the pieces come before the settings.
  std::string Finish(const Settings& settings) &&;

 private:
  std::string message_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_PROTO_H_
