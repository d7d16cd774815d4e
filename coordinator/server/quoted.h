#ifndef KVEC_COORDINATOR_SERVER_QUOTED_H_
#define KVEC_COORDINATOR_SERVER_QUOTED_H_

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::server {

// A client's value for an error message: in quotes, escaped to ASCII, and cut when long, since
// gRPC sends messages in a header of limited size.
inline std::string Quoted(absl::string_view value) {
  constexpr size_t kMaxBytes = 64;
  return absl::StrCat("\"", absl::CHexEscape(value.substr(0, kMaxBytes)),
                      value.size() > kMaxBytes ? "…\"" : "\"");
}

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_QUOTED_H_
