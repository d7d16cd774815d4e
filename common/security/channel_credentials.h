#ifndef KVEC_COMMON_SECURITY_CHANNEL_CREDENTIALS_H_
#define KVEC_COMMON_SECURITY_CHANNEL_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace kvec::security {

// How a channel is encrypted. PEM files are read again when they change, as a server's.
struct ClientTls {
  bool enabled = false;     // also by any of the files
  std::string ca;           // who may vouch for the server; empty: the system's authorities
  std::string certificate;  // chain that this side shows; empty: none
  std::string key;
  std::string server_name;  // that the server's certificate must have; empty: the target's host

  bool is_on() const { return enabled || !ca.empty() || !certificate.empty(); }
};

// INVALID_ARGUMENT or the system's error when a file can't be used. Adds to `arguments` what else
// the channel must be made with.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const ClientTls& tls, grpc::ChannelArguments& arguments);

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_CHANNEL_CREDENTIALS_H_
