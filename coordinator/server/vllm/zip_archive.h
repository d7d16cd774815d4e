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

// A zip archive of these files, one at least, stored without compression: they are made on request,
// and compressing them would take seconds. INTERNAL when memory is out.
absl::StatusOr<std::string> ZipArchive(absl::Span<const ArchiveFile> files);

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_ZIP_ARCHIVE_H_
