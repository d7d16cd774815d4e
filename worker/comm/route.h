#ifndef KVEC_WORKER_COMM_ROUTE_H_
#define KVEC_WORKER_COMM_ROUTE_H_

#include <string>

#include "absl/status/statusor.h"

namespace kvec::worker::comm {

// The network interface (eth0) over which this host reaches the target HOST:PORT. UNAVAILABLE when
// the host's name is not known, or there is no route to it, now; INVALID_ARGUMENT for a target of
// another form. Sends nothing but what asking for the name takes.
absl::StatusOr<std::string> InterfaceTowards(const std::string& target);

}  // namespace kvec::worker::comm

#endif  // KVEC_WORKER_COMM_ROUTE_H_
