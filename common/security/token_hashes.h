#ifndef KVEC_COMMON_SECURITY_TOKEN_HASHES_H_
#define KVEC_COMMON_SECURITY_TOKEN_HASHES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::security {

// The bearer tokens that a server takes, as SHA-256 only: whoever reads the file they come from
// can't use them. Plain hashes are enough as the tokens are random (MakeToken), not passwords.
class TokenHashes {
 public:
  TokenHashes() = default;

  // A tokens file: a line per token, its SHA-256 in 64 hexadecimal digits and a name, if it has
  // one. Empty lines and those that begin with # don't count. INVALID_ARGUMENT names the line, but
  // doesn't repeat it: it may be a token that somebody wrote there by mistake.
  //
  //   2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae  alice
  static absl::StatusOr<TokenHashes> Parse(absl::string_view text);

  // The one token.
  static TokenHashes Of(absl::string_view token);

  // Takes as long whichever token it is, or none.
  bool Contains(absl::string_view token) const;

  size_t size() const { return hashes_.size(); }
  bool operator==(const TokenHashes& other) const { return hashes_ == other.hashes_; }

 private:
  std::vector<std::string> hashes_;  // 64 lower-case hexadecimal digits each
};

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_TOKEN_HASHES_H_
