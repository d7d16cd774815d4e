#ifndef KVEC_COMMON_RETRY_AFTER_H_
#define KVEC_COMMON_RETRY_AFTER_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kvec {

// Marks a refusal that is worth another try, and when: at the earliest after `pause`, which is kept
// in whole milliseconds.
void SetRetryAfter(absl::Duration pause, absl::Status& status);

// Null: not marked.
std::optional<absl::Duration> RetryAfter(const absl::Status& status);

}  // namespace kvec

#endif  // KVEC_COMMON_RETRY_AFTER_H_
