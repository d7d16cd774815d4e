#include "common/security/server_credentials.h"

#include <grpcpp/security/tls_credentials_options.h>

#include <utility>

#include "common/security/plaintext_credentials.h"
#include "common/security/tls_files.h"
#include "common/security/token_processor.h"
#include "common/status_macros.h"

namespace kvec::security {
namespace {

constexpr unsigned int kRefreshSeconds = 1;

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeTlsCredentials(const ServerTls& tls) {
  namespace tls_api = grpc::experimental;
  KVEC_RETURN_IF_ERROR(CheckIdentityFiles(tls.certificate, tls.key));
  if (!tls.client_ca.empty()) KVEC_RETURN_IF_ERROR(CheckAuthorityFile(tls.client_ca));
  tls_api::TlsServerCredentialsOptions options(
      std::make_shared<tls_api::FileWatcherCertificateProvider>(tls.key, tls.certificate,
                                                                tls.client_ca, kRefreshSeconds));
  options.watch_identity_key_cert_pairs();
  if (!tls.client_ca.empty()) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls_api::TlsServerCredentials(options);
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerTls& tls, std::shared_ptr<TokenGuard> guard) {
  std::shared_ptr<grpc::ServerCredentials> credentials;
  if (tls.certificate.empty()) {
    credentials = std::make_shared<PlaintextCredentials>();
  } else {
    KVEC_ASSIGN_OR_RETURN(credentials, MakeTlsCredentials(tls));
  }
  if (guard != nullptr) {
    credentials->SetAuthMetadataProcessor(std::make_shared<TokenProcessor>(std::move(guard)));
  }
  return credentials;
}

}  // namespace kvec::security
