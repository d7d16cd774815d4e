#ifndef KVEC_COMMON_SECURITY_CLIENT_FLAGS_H_
#define KVEC_COMMON_SECURITY_CLIENT_FLAGS_H_

#include "CLI/CLI.hpp"
#include "common/security/channel_credentials.h"

namespace kvec::security {

// --tls, --tls-ca, --tls-cert, --tls-key and --tls-server-name. `tls` must outlive the parse.
void AddClientTlsFlags(CLI::App& app, ClientTls& tls);

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_CLIENT_FLAGS_H_
