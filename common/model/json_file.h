#ifndef KVEC_COMMON_MODEL_JSON_FILE_H_
#define KVEC_COMMON_MODEL_JSON_FILE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace kvec {

// The text of a small file of a model's folder. Errors name the path: NOT_FOUND when it is missing,
// INVALID_ARGUMENT when it is no regular file, empty, or larger than any file of its kind.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t max_bytes);

// A JSON object in a file of at most 16 MiB.
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path);

// The same for a file that need not be there.
absl::StatusOr<std::optional<nlohmann::json>> ReadOptionalJsonFile(const std::string& path);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_JSON_FILE_H_
