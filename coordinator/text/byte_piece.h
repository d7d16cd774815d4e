#ifndef KVEC_COORDINATOR_TEXT_BYTE_PIECE_H_
#define KVEC_COORDINATOR_TEXT_BYTE_PIECE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// How SentencePiece vocabularies write a space.
inline constexpr absl::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// "<0x0A>"
std::string BytePiece(uint8_t byte);

// The byte of a piece like "<0x0A>"; INVALID_ARGUMENT for anything else.
absl::StatusOr<char> ParseBytePiece(absl::string_view piece);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_BYTE_PIECE_H_
