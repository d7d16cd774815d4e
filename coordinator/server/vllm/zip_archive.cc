#include "coordinator/server/vllm/zip_archive.h"

#include <zip.h>

#include <ctime>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::server::vllm {
namespace {

constexpr time_t kTime = 315'532'800;  // 1980, the format's first: equal files, equal bytes

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct Free {
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Source = std::unique_ptr<zip_source_t, Free>;

// Where there is no archive yet to ask for its error.
struct OpenError {
  OpenError() { zip_error_init(&error); }
  ~OpenError() { zip_error_fini(&error); }
  zip_error_t error;
};

absl::Status Error(absl::string_view what, zip_error_t* error) {
  return absl::InternalError(absl::StrCat("zip archive: ", what, ": ", zip_error_strerror(error)));
}

absl::Status AddFile(const ArchiveFile& file, zip_t* archive) {
  zip_source_t* content =
      zip_source_buffer(archive, file.content.data(), file.content.size(), /*freep=*/0);
  const zip_int64_t index =
      content == nullptr ? -1 : zip_file_add(archive, file.name.c_str(), content, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(content);  // else the archive's
    return Error(file.name, zip_get_error(archive));
  }
  if (zip_set_file_compression(archive, index, ZIP_CM_STORE, 0) != 0 ||
      zip_file_set_mtime(archive, index, kTime, 0) != 0) {
    return Error(file.name, zip_get_error(archive));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(zip_source_t* source) {
  zip_stat_t stat;
  if (zip_source_stat(source, &stat) != 0 || zip_source_open(source) != 0) {
    return Error("reading", zip_source_error(source));
  }
  std::string bytes(stat.size, '\0');
  const zip_int64_t num_read = zip_source_read(source, bytes.data(), bytes.size());
  zip_source_close(source);
  if (num_read != static_cast<zip_int64_t>(bytes.size())) {
    return Error("reading", zip_source_error(source));
  }
  return bytes;
}

}  // namespace

absl::StatusOr<std::string> ZipArchive(absl::Span<const ArchiveFile> files) {
  OpenError open;
  const Source bytes(zip_source_buffer_create(nullptr, 0, 0, &open.error));
  if (bytes == nullptr) return Error("memory", &open.error);
  std::unique_ptr<zip_t, Discard> archive(
      zip_open_from_source(bytes.get(), ZIP_TRUNCATE, &open.error));
  if (archive == nullptr) return Error("memory", &open.error);
  zip_source_keep(bytes.get());  // the archive has let go of it when it is closed
  for (const ArchiveFile& file : files) {
    if (absl::Status status = AddFile(file, archive.get()); !status.ok()) return status;
  }
  if (zip_close(archive.get()) != 0) return Error("writing", zip_get_error(archive.get()));
  archive.release();
  return ReadAll(bytes.get());
}

}  // namespace kvec::coordinator::server::vllm
