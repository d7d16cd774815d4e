#ifndef KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_
#define KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// Finds stop strings in streamed text, also across messages. Text that might be the beginning of a
// stop string is held back until it is decided. Not thread-safe.
class StopMatcher {
 public:
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  // Returns the text that is safe to send now. After a match, matched() is set and the text ends
  // before (include_stop: after) the match that begins first; nothing may be pushed any more.
  std::string Push(absl::string_view text);

  // What was held back, when generation ends for another reason.
  std::string Flush();

  const std::optional<std::string>& matched() const { return matched_; }

 private:
  const std::vector<std::string> stops_;
  const bool include_stop_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_
