#include "coordinator/text/utf8.h"

#include <cstdint>

namespace kvec::coordinator::text {
namespace {

enum class Shape { kWhole, kInvalid, kUnfinished };

struct Part {
  Shape shape;
  size_t size;  // bytes; of an invalid part: what one U+FFFD stands for
};

// Table 3-7 of the Unicode Standard: the second byte's range excludes overlong forms, surrogates,
// and what lies beyond U+10FFFF.
struct Lead {
  size_t size;  // 0: no character begins with this byte
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xBF;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

Part FirstPart(absl::string_view bytes) {
  const Lead lead = LeadOf(static_cast<uint8_t>(bytes[0]));
  if (lead.size == 0) return {Shape::kInvalid, 1};
  for (size_t i = 1; i < lead.size; ++i) {
    if (i == bytes.size()) return {Shape::kUnfinished, i};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Shape::kInvalid, i};
  }
  return {Shape::kWhole, lead.size};
}

}  // namespace

size_t FindInvalidUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Part part = FirstPart(text.substr(i));
    if (part.shape != Shape::kWhole) return i;
    i += part.size;
  }
  return absl::string_view::npos;
}

size_t AppendWholeCharacters(absl::string_view bytes, std::string& out) {
  size_t i = 0;
  while (i < bytes.size()) {
    const Part part = FirstPart(bytes.substr(i));
    if (part.shape == Shape::kUnfinished) break;
    const bool whole = part.shape == Shape::kWhole;
    const absl::string_view shown = whole ? bytes.substr(i, part.size) : kReplacementCharacter;
    out.append(shown.data(), shown.size());
    i += part.size;
  }
  return i;
}

}  // namespace kvec::coordinator::text
