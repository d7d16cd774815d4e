#include "coordinator/text/byte_alphabet.h"

#include <array>

namespace kvec::coordinator::text {
namespace {

constexpr int kFirstShifted = 256;  // unprintable bytes take the code points from here on, in order
constexpr int kNumShifted = 68;

constexpr bool IsPrintable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<uint16_t, 256> code_point_of{};
  std::array<int16_t, kFirstShifted + kNumShifted> byte_of{};  // -1: outside the alphabet
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte_of) byte = -1;
  int next_shifted = kFirstShifted;
  for (int byte = 0; byte < 256; ++byte) {
    const int code_point = IsPrintable(byte) ? byte : next_shifted++;
    alphabet.code_point_of[byte] = static_cast<uint16_t>(code_point);
    alphabet.byte_of[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string ByteToAlphabet(uint8_t byte) {
  const int code_point = kAlphabet.code_point_of[byte];
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 63))};
}

std::optional<std::string> AlphabetToBytes(absl::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size(); ++i) {
    int code_point = static_cast<uint8_t>(token[i]);
    if (code_point >= 0x80) {
      // The alphabet's characters have at most two bytes; anything else ends up outside of it.
      if (++i == token.size()) return std::nullopt;
      code_point = (code_point & 0x3F) << 6 | (static_cast<uint8_t>(token[i]) & 0x3F);
    }
    if (code_point >= static_cast<int>(kAlphabet.byte_of.size())) return std::nullopt;
    if (kAlphabet.byte_of[code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of[code_point]);
  }
  return bytes;
}

}  // namespace kvec::coordinator::text
