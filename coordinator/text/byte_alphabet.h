#ifndef KVEC_COORDINATOR_TEXT_BYTE_ALPHABET_H_
#define KVEC_COORDINATOR_TEXT_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// GPT-2's alphabet: byte-level vocabularies write every byte as one printable character, so that a
// space is "Ġ" (U+0120) and a newline is "Ċ" (U+010A).

// The character, in UTF-8, that stands for the byte.
std::string ByteToAlphabet(uint8_t byte);

// The bytes that a token of such a vocabulary stands for; nullopt if a character of it is outside
// the alphabet (added tokens are stored as plain text).
std::optional<std::string> AlphabetToBytes(absl::string_view token);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_BYTE_ALPHABET_H_
