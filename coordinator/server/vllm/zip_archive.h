#ifndef KVEC_COORDINATOR_SERVER_VLLM_ZIP_ARCHIVE_H_
#define KVEC_COORDINATOR_SERVER_VLLM_ZIP_ARCHIVE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace kvec::coordinator::server::vllm {

struct ArchiveFile {
  std::string name;
  std::string content;
};

// A zip archive of these files, stored without compression. OUT_OF_RANGE above the format's 4 GiB.
absl::StatusOr<std::string> ZipArchive(absl::Span<const ArchiveFile> files);

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_ZIP_ARCHIVE_H_
