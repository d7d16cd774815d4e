#ifndef KVEC_COMMON_SECURITY_TLS_FILES_H_
#define KVEC_COMMON_SECURITY_TLS_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvec::security {

// Whether PEM files can be used: gRPC reads them by itself, later, and then only logs what is
// wrong. Errors name the file.

// A chain of certificates, this side's first, and its private key, not encrypted, which fit.
absl::Status CheckIdentityFiles(const std::string& certificate, const std::string& key);

// Certificates of authorities, one or more.
absl::Status CheckAuthorityFile(const std::string& path);

// When the first certificate of the file expires.
absl::StatusOr<absl::Time> ExpiryOf(const std::string& certificate);

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_TLS_FILES_H_
