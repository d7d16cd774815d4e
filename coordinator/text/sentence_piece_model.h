#ifndef KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_MODEL_H_
#define KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_MODEL_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/special_token_matcher.h"
#include "coordinator/text/subword_model.h"

namespace kvec::coordinator::text {

// SentencePiece's BPE: of all neighbours whose texts together are a piece those of the highest
// score are joined first, of equal ones the leftmost. Our own, because Debian's libsentencepiece
// exports the symbols of a private Protobuf: a program that also uses libprotobuf, as all that
// speak gRPC do, crashes before main.
class SentencePieceModel final : public SubwordModel {
 public:
  struct Piece {
    int32_t id = 0;
    float score = 0;
    bool is_unused = false;  // may be passed through, but is cut again into what it was joined from
  };

  struct Options {
    absl::flat_hash_map<std::string, Piece> pieces;    // by text, U+2581 for spaces
    SpecialTokenMatcher user_defined;                  // never joined with their neighbours
    std::optional<std::array<int32_t, 256>> byte_ids;  // what an unknown character becomes
    int32_t unknown_id = 0;                            // without byte_ids
    bool add_space_prefix = false;
  };

  explicit SentencePieceModel(Options options) : options_(std::move(options)) {}

  absl::Status Encode(absl::string_view text, Place place,
                      std::vector<int32_t>& ids) const override;
  // U+2581, three bytes, is a space in what a token adds to a text.
  size_t max_shrink() const override { return options_.byte_ids.has_value() ? 3 : 0; }

 private:
  // Appends the ids of text without user-defined pieces.
  void EncodeSpan(absl::string_view span, std::vector<int32_t>& ids) const;

  const Options options_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_SENTENCE_PIECE_MODEL_H_
