#ifndef KVEC_COMMON_SECURITY_PLAINTEXT_CREDENTIALS_H_
#define KVEC_COMMON_SECURITY_PLAINTEXT_CREDENTIALS_H_

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

namespace kvec::security {

// Like grpc::InsecureServerCredentials, but calls may be asked for a token: gRPC's own abort on
// SetAuthMetadataProcessor. For listeners on the loopback, or behind something that encrypts.
class PlaintextCredentials final : public grpc::ServerCredentials {
 public:
  // The processor must not block.
  void SetAuthMetadataProcessor(
      const std::shared_ptr<grpc::AuthMetadataProcessor>& processor) override {
    processor_ = processor;
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override;

  std::shared_ptr<grpc::AuthMetadataProcessor> processor_;  // null: nobody is asked
};

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_PLAINTEXT_CREDENTIALS_H_
