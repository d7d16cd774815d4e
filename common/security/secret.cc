#include "common/security/secret.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace kvec::security {
namespace {

constexpr size_t kMaxTokenBytes = 4096;
constexpr size_t kRandomBytes = 32;

absl::Status Annotate(const absl::Status& status, absl::string_view where) {
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  std::string text;
  char block[4096];
  ssize_t size = 0;
  int error = 0;
  do {
    size = read(descriptor, block, sizeof(block));
    error = errno;
    if (size > 0) text.append(block, static_cast<size_t>(size));
  } while ((size > 0 && text.size() <= max_bytes) || (size < 0 && error == EINTR));
  close(descriptor);
  if (size < 0) return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot read"));
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has more than ", max_bytes, " bytes"));
  }
  return text;
}

absl::Status CheckToken(absl::string_view token) {
  if (token.empty()) return absl::InvalidArgumentError("the token is empty");
  if (token.size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the token has ", token.size(), " bytes, at most ", kMaxTokenBytes, " are allowed"));
  }
  if (!std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(
        "the token has a space or another character that is not printable ASCII");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadToken(const std::string& path, const char* variable) {
  std::string token;
  if (path.empty()) {
    const char* value = std::getenv(variable);
    if (value == nullptr) return token;
    token = value;
  } else {
    absl::StatusOr<std::string> text = ReadSmallFile(path);
    if (!text.ok()) return text.status();
    token = *std::move(text);
  }
  absl::StripAsciiWhitespace(&token);
  if (absl::Status status = CheckToken(token); !status.ok()) {
    return Annotate(status, path.empty() ? variable : path);
  }
  return token;
}

std::string Sha256Hex(absl::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  // Fails only when OpenSSL is broken or memory is out.
  CHECK_EQ(EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr), 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string MakeToken() {
  unsigned char bytes[kRandomBytes];
  CHECK_EQ(RAND_bytes(bytes, sizeof(bytes)), 1);
  return absl::StrCat("kvec_", absl::WebSafeBase64Escape(absl::string_view(
                                   reinterpret_cast<const char*>(bytes), sizeof(bytes))));
}

}  // namespace kvec::security
