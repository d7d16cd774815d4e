#ifndef KVEC_COMMON_MODEL_JSON_H_
#define KVEC_COMMON_MODEL_JSON_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace kvec {

// Parses JSON out of a file that may be hostile. INVALID_ARGUMENT for anything that is not JSON,
// for nesting beyond 64 levels, and for an object with the same key twice. The value of `skip_key`
// in the outermost object is checked like the rest but not kept (a tokenizer.json's vocabulary
// takes a second and a gigabyte as a document).
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, absl::string_view skip_key = "");

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_JSON_H_
