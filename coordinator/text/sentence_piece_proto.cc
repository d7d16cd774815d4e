#include "coordinator/text/sentence_piece_proto.h"

#include <array>
#include <bit>
#include <utility>

namespace kvec::coordinator::text {
namespace {

enum WireType : uint32_t { kVarint = 0, kLengthDelimited = 2, kFixed32 = 5 };

void AppendVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void AppendTag(std::string& out, uint32_t field, WireType type) {
  AppendVarint(out, field << 3 | type);
}

void AppendInteger(std::string& out, uint32_t field, uint64_t value) {
  AppendTag(out, field, kVarint);
  AppendVarint(out, value);
}

void AppendBytes(std::string& out, uint32_t field, absl::string_view bytes) {
  AppendTag(out, field, kLengthDelimited);
  AppendVarint(out, bytes.size());
  out.append(bytes.data(), bytes.size());
}

void AppendFloat(std::string& out, uint32_t field, float value) {
  AppendTag(out, field, kFixed32);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(bits >> shift);
}

}  // namespace

void SentencePieceProto::AddPiece(absl::string_view piece, float score,
                                  TokenizerData::TokenType type) {
  std::string entry;
  AppendBytes(entry, 1, piece);
  AppendFloat(entry, 2, score);
  AppendInteger(entry, 3, type);  // GGUF's numbers are SentencePiece's
  AppendBytes(message_, 1, entry);
}

std::string SentencePieceProto::Finish(const Settings& settings) && {
  constexpr uint64_t kBpe = 2;
  constexpr uint64_t kNoId =
      ~uint64_t{0};  // -1: BOS, EOS, and padding are not the library's affair
  std::string trainer;
  AppendInteger(trainer, 3, kBpe);
  AppendInteger(trainer, 35, settings.byte_fallback);
  AppendInteger(trainer, 40, settings.unknown_id);
  for (const uint32_t field : {41, 42, 43}) AppendInteger(trainer, field, kNoId);
  AppendBytes(message_, 2, trainer);

  std::string normalizer;
  AppendBytes(normalizer, 1, "identity");
  AppendInteger(normalizer, 3, settings.add_space_prefix);
  AppendInteger(normalizer, 4, 0);  // spaces in a row stay
  AppendInteger(normalizer, 5, 1);  // a space is written as U+2581
  AppendBytes(message_, 3, normalizer);
  return std::move(message_);
}

}  // namespace kvec::coordinator::text
