#ifndef KVEC_COORDINATOR_TEXT_NFC_H_
#define KVEC_COORDINATOR_TEXT_NFC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// The text (valid UTF-8) in Unicode normalisation form C. INVALID_ARGUMENT for more than 1,000
// combining marks in a row: sorting them takes quadratic time, and no language has them.
absl::StatusOr<std::string> NormalizeNfc(absl::string_view text);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_NFC_H_
