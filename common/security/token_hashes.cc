#include "common/security/token_hashes.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/security/secret.h"

namespace kvec::security {
namespace {

constexpr size_t kHashDigits = 64;
// Each call compares with all of them, which takes 55 ns each.
constexpr size_t kMaxTokens = 10'000;

}  // namespace

absl::StatusOr<TokenHashes> TokenHashes::Parse(absl::string_view text) {
  TokenHashes tokens;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const absl::string_view hash = line.substr(0, line.find_first_of(" \t"));
    if (hash.size() != kHashDigits ||
        !std::all_of(hash.begin(), hash.end(), absl::ascii_isxdigit)) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": does not begin with a SHA-256 of ", kHashDigits,
                       " hexadecimal digits; `kvec token` makes such lines"));
    }
    if (tokens.size() == kMaxTokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": more than ", kMaxTokens, " tokens"));
    }
    tokens.hashes_.push_back(absl::AsciiStrToLower(hash));
  }
  return tokens;
}

TokenHashes TokenHashes::Of(absl::string_view token) {
  TokenHashes tokens;
  tokens.hashes_.push_back(Sha256Hex(token));
  return tokens;
}

bool TokenHashes::Contains(absl::string_view token) const {
  const std::string hash = Sha256Hex(token);
  bool found = false;
  for (const std::string& known : hashes_) {
    found |= CRYPTO_memcmp(known.data(), hash.data(), kHashDigits) == 0;
  }
  return found;
}

}  // namespace kvec::security
