#include "coordinator/text/byte_piece.h"

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kvec::coordinator::text {

std::string BytePiece(uint8_t byte) { return absl::StrFormat("<0x%02X>", byte); }

absl::StatusOr<char> ParseBytePiece(absl::string_view piece) {
  uint32_t byte = 0;
  if (piece.size() != 6 || !absl::StartsWith(piece, "<0x") || !absl::EndsWith(piece, ">") ||
      !absl::SimpleHexAtoi(piece.substr(3, 2), &byte)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer: the byte token \"", piece, "\" is not written as <0xNN>"));
  }
  return static_cast<char>(byte);
}

}  // namespace kvec::coordinator::text
