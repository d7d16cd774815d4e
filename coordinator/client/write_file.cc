#include "coordinator/client/write_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::client {

absl::Status WriteFile(absl::string_view option, const std::string& path,
                       const std::string& content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.close();
  if (file.good()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, " ", path, ": ", std::strerror(errno)));
}

}  // namespace kvec::coordinator::client
