#ifndef KVEC_COMMON_MODEL_ERROR_TEXT_H_
#define KVEC_COMMON_MODEL_ERROR_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace kvec {

// A name out of a file, for an error message: in quotes, escaped to ASCII, and cut when long, since
// a hostile file may hold any bytes where a name belongs.
std::string Quoted(absl::string_view name);

// "[2, 3]".
std::string ShapeText(absl::Span<const int64_t> shape);

// `status` with "context: " before its message; OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

}  // namespace kvec

#endif  // KVEC_COMMON_MODEL_ERROR_TEXT_H_
