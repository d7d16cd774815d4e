#ifndef KVEC_COMMON_SECURITY_LISTEN_ADDRESS_H_
#define KVEC_COMMON_SECURITY_LISTEN_ADDRESS_H_

#include "absl/strings/string_view.h"

namespace kvec::security {

// Whether only processes of this machine can be at the other end of an address: HOST:PORT with
// localhost or a loopback address, or a Unix socket, unix:PATH. Names are not looked up.
bool IsLocalAddress(absl::string_view address);

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_LISTEN_ADDRESS_H_
