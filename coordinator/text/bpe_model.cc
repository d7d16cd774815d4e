#include "coordinator/text/bpe_model.h"

#include <algorithm>

#include "common/status_macros.h"
#include "coordinator/text/utf8.h"

namespace kvec::coordinator::text {

absl::Status BpeModel::Encode(absl::string_view text, Place place,
                              std::vector<int32_t>& ids) const {
  std::string normalized;
  if (!options_.normalizer.empty()) {
    KVEC_ASSIGN_OR_RETURN(normalized, Normalize(text, place, options_.normalizer));
    text = normalized;
  }
  std::vector<int32_t> symbols;
  return options_.pre_tokenizer.Split(text, [&](absl::string_view piece) {
    symbols.clear();
    EncodePiece(piece, symbols);
    ids.insert(ids.end(), symbols.begin(), symbols.end());
    return absl::OkStatus();
  });
}

size_t BpeModel::max_shrink() const {
  if (options_.pre_tokenizer.removes_text()) return 0;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_in_utf8 = byte < 0xC0 || (byte >= 0xC2 && byte <= 0xF4);
    if (is_in_utf8 && options_.byte_ids[byte] < 0) return 0;
  }
  // Among characters there is U+2581, three bytes, which a token adds as a space.
  const size_t shrink = options_.symbols == Symbols::kCharacters ? 3 : 1;
  return shrink * MaxShrink(options_.normalizer);
}

void BpeModel::EncodePiece(absl::string_view piece, std::vector<int32_t>& symbols) const {
  if (options_.ignore_merges) {
    const auto whole = options_.vocabulary.find(piece);
    if (whole != options_.vocabulary.end()) {
      symbols.push_back(whole->second);
      return;
    }
  }
  if (options_.symbols == Symbols::kBytes) {
    AppendBytes(piece, symbols);
  } else {
    AppendCharacters(piece, symbols);
  }
  options_.merges.Apply(symbols);
}

void BpeModel::AppendBytes(absl::string_view piece, std::vector<int32_t>& symbols) const {
  for (const char byte : piece) {
    const int32_t id = options_.byte_ids[static_cast<uint8_t>(byte)];
    if (id >= 0) {
      symbols.push_back(id);
    } else if (options_.unknown_id.has_value()) {
      symbols.push_back(*options_.unknown_id);
    }
  }
}

void BpeModel::AppendCharacters(absl::string_view piece, std::vector<int32_t>& symbols) const {
  bool after_unknown = false;
  for (size_t i = 0; i < piece.size();) {
    const absl::string_view character = piece.substr(i, CharacterLength(piece[i]));
    i += character.size();
    const auto known = options_.vocabulary.find(character);
    if (known != options_.vocabulary.end()) {
      symbols.push_back(known->second);
      after_unknown = false;
      continue;
    }
    const auto id_of = [&](char byte) { return options_.byte_ids[static_cast<uint8_t>(byte)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return id_of(c) >= 0; })) {
      for (const char byte : character) symbols.push_back(id_of(byte));
      after_unknown = false;
    } else if (options_.unknown_id.has_value()) {
      if (!after_unknown || !options_.fuse_unknown) symbols.push_back(*options_.unknown_id);
      after_unknown = true;
    }
  }
}

}  // namespace kvec::coordinator::text
