#ifndef KVEC_COMMON_SECURITY_TOKEN_PROCESSOR_H_
#define KVEC_COMMON_SECURITY_TOKEN_PROCESSOR_H_

#include <grpcpp/security/auth_metadata_processor.h>

#include <memory>

#include "common/security/token_guard.h"

namespace kvec::security {

// Asks every call of a listener for its token, whatever service it is for, before the service hears
// of it. grpc.health.v1.Health alone is open: probes and load balancers have no token, and it tells
// only whether this server serves. The services don't see the token.
class TokenProcessor final : public grpc::AuthMetadataProcessor {
 public:
  explicit TokenProcessor(std::shared_ptr<TokenGuard> guard) : guard_(std::move(guard)) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context,
                       OutputMetadata* consumed, OutputMetadata* response) override;

 private:
  const std::shared_ptr<TokenGuard> guard_;
};

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_TOKEN_PROCESSOR_H_
