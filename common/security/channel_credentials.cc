#include "common/security/channel_credentials.h"

#include <grpcpp/security/tls_credentials_options.h>

#include "common/security/tls_files.h"
#include "common/status_macros.h"

namespace kvec::security {
namespace {

constexpr unsigned int kRefreshSeconds = 1;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const ClientTls& tls, grpc::ChannelArguments& arguments) {
  namespace tls_api = grpc::experimental;
  if (!tls.is_on()) return grpc::InsecureChannelCredentials();
  if (!tls.certificate.empty()) {
    KVEC_RETURN_IF_ERROR(CheckIdentityFiles(tls.certificate, tls.key));
  }
  if (!tls.ca.empty()) KVEC_RETURN_IF_ERROR(CheckAuthorityFile(tls.ca));
  tls_api::TlsChannelCredentialsOptions options;
  if (!tls.certificate.empty() || !tls.ca.empty()) {
    options.set_certificate_provider(std::make_shared<tls_api::FileWatcherCertificateProvider>(
        tls.key, tls.certificate, tls.ca, kRefreshSeconds));
  }
  if (!tls.certificate.empty()) options.watch_identity_key_cert_pairs();
  if (!tls.ca.empty()) options.watch_root_certs();
  if (!tls.server_name.empty()) arguments.SetSslTargetNameOverride(tls.server_name);
  return tls_api::TlsCredentials(options);
}

}  // namespace kvec::security
