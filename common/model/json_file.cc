#include "common/model/json_file.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/json.h"
#include "common/model/mapped_file.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

constexpr size_t kMaxJsonBytes = 16 << 20;

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes) {
  KVEC_ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  if (file->bytes().size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", file->bytes().size(), " bytes, more than ", max_bytes));
  }
  return std::string(file->text());
}

absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path) {
  KVEC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMaxJsonBytes));
  absl::StatusOr<nlohmann::json> document = ParseJson(text);
  if (!document.ok()) return Annotate(document.status(), path);
  if (!document->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is no JSON object"));
  }
  return document;
}

absl::StatusOr<std::optional<nlohmann::json>> ReadOptionalJsonFile(const std::string& path) {
  absl::StatusOr<nlohmann::json> document = ReadJsonFile(path);
  if (absl::IsNotFound(document.status())) return std::nullopt;
  if (!document.ok()) return document.status();
  return std::optional<nlohmann::json>(*std::move(document));
}

}  // namespace kvec
