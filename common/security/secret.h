#ifndef KVEC_COMMON_SECURITY_SECRET_H_
#define KVEC_COMMON_SECURITY_SECRET_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::security {

// The contents of a file, which may be a pipe. INVALID_ARGUMENT when it has more than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes = 1 << 20);

// Why `token` can't be a bearer token: it is empty, longer than 4096 bytes, or has a character that
// is not printable ASCII. The message says nothing of its text.
absl::Status CheckToken(absl::string_view token);

// The token in the file `path`, without the whitespace around it, or without a path the one in the
// environment variable `variable`; empty when there is neither. Errors name the file or the
// variable, never the text. Tokens don't come from a command line: everyone can read those.
absl::StatusOr<std::string> ReadToken(const std::string& path, const char* variable);

// Of the text alone, as sha256sum gives it: 64 hexadecimal digits.
std::string Sha256Hex(absl::string_view text);

// A token that nobody can guess: 32 random bytes in 43 characters that need no quoting, after
// "kvec_", by which those who search for lost secrets find it.
std::string MakeToken();

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_SECRET_H_
