#ifndef KVEC_COORDINATOR_TEXT_UTF8_H_
#define KVEC_COORDINATOR_TEXT_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

inline constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Offset of the first byte that is not part of a whole UTF-8 character; npos for valid text.
size_t FindInvalidUtf8(absl::string_view text);

// Bytes of the character that begins with `lead`; `lead` comes from valid text.
inline size_t CharacterLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Appends the whole characters at the start of `bytes` to `out`, with U+FFFD for every maximal
// invalid part (as the Unicode Standard and Python do). Returns the number of bytes used up: the
// rest, at most three bytes, is the beginning of a character.
size_t AppendWholeCharacters(absl::string_view bytes, std::string& out);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_UTF8_H_
