#ifndef KVEC_COMMON_MODEL_MAPPED_FILE_H_
#define KVEC_COMMON_MODEL_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvec {

// A regular file mapped for reading, until destruction. Any thread. The file must not be truncated
// while it is mapped: the system answers reads beyond its new end with SIGBUS.
class MappedFile {
 public:
  // NOT_FOUND for a missing file, INVALID_ARGUMENT for anything but a regular, non-empty file.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  absl::Span<const uint8_t> bytes() const { return {data_, size_}; }
  absl::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // Drops the resident pages; the next access reads them from the page cache or the disk.
  void ReleasePages() const;

 private:
  MappedFile(std::string path, const uint8_t* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  const std::string path_;
  const uint8_t* const data_;
  const size_t size_;
};

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_MAPPED_FILE_H_
