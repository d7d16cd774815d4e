#ifndef KVEC_COMMON_SECURITY_SERVER_CREDENTIALS_H_
#define KVEC_COMMON_SECURITY_SERVER_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/security/token_guard.h"

namespace kvec::security {

// PEM files of a listener, read again within a second when they change: connections stay, new ones
// see the new certificate.
struct ServerTls {
  std::string certificate;  // chain; empty: nothing is encrypted
  std::string key;
  std::string client_ca;  // peers must show a certificate of one of these; empty: none is asked for
};

// What a listener asks of its peers; with a guard of every call, see TokenProcessor.
// INVALID_ARGUMENT or the system's error when a file can't be used.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerTls& tls, std::shared_ptr<TokenGuard> guard);

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_SERVER_CREDENTIALS_H_
