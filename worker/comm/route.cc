#include "worker/comm/route.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kvec::worker::comm {
namespace {

bool IsSameHost(const sockaddr& a, const sockaddr& b) {
  if (a.sa_family != b.sa_family) return false;
  if (a.sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in&>(a).sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in&>(b).sin_addr.s_addr;
  }
  return a.sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6&>(a).sin6_addr,
                     &reinterpret_cast<const sockaddr_in6&>(b).sin6_addr, sizeof(in6_addr)) == 0;
}

absl::StatusOr<std::string> InterfaceOf(const sockaddr& local) {
  ifaddrs* interfaces = nullptr;
  if (getifaddrs(&interfaces) != 0) {
    return absl::UnavailableError(absl::StrCat("network interfaces: ", strerror(errno)));
  }
  const absl::Cleanup free_interfaces = [interfaces] { freeifaddrs(interfaces); };
  for (const ifaddrs* it = interfaces; it != nullptr; it = it->ifa_next) {
    if (it->ifa_addr != nullptr && IsSameHost(*it->ifa_addr, local)) return it->ifa_name;
  }
  return absl::UnavailableError("network interfaces: none has the local address of the route");
}

}  // namespace

absl::StatusOr<std::string> InterfaceTowards(const std::string& target) {
  const size_t colon = target.rfind(':');
  if (colon == std::string::npos || colon == 0 || target.find('/') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat("\"", target, "\" is not HOST:PORT"));
  }
  absl::string_view host = absl::string_view(target).substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int code =
      getaddrinfo(std::string(host).c_str(), target.c_str() + colon + 1, &hints, &found);
  if (code != 0) return absl::UnavailableError(absl::StrCat(target, ": ", gai_strerror(code)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  for (const addrinfo* it = found; it != nullptr; it = it->ai_next) {
    const int fd = socket(it->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const absl::Cleanup close_fd = [fd] { close(fd); };
    // Connecting a datagram socket only looks the route up.
    sockaddr_storage local = {};
    socklen_t local_bytes = sizeof(local);
    auto* const address = reinterpret_cast<sockaddr*>(&local);
    if (connect(fd, it->ai_addr, it->ai_addrlen) == 0 &&
        getsockname(fd, address, &local_bytes) == 0) {
      return InterfaceOf(*address);
    }
  }
  return absl::UnavailableError(absl::StrCat(target, ": no route"));
}

}  // namespace kvec::worker::comm
