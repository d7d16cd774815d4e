#ifndef KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_
#define KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// Finds stop strings in streamed text, also across messages. Text that might be the beginning of a
// stop string is held back until it is decided. The match that begins first counts, of those that
// begin together the shortest. Time is linear in the text (Knuth-Morris-Pratt). Not thread-safe.
class StopMatcher {
 public:
  // Empty stop strings match nothing.
  StopMatcher(std::vector<std::string> stops, bool include_stop);

  // Returns the text that is safe to send now. After a match, matched() is set and the text ends
  // before (include_stop: after) the match; nothing may be pushed any more.
  std::string Push(absl::string_view text);

  // What was held back, when generation ends for another reason; sets matched() where a match was
  // held back because one that begins earlier was still possible.
  std::string Flush();

  const std::optional<std::string>& matched() const { return matched_; }

 private:
  struct Stop {
    std::string text;
    // border[i]: the length of the longest proper prefix of text[0, i] that is also its suffix.
    std::vector<size_t> border;
    size_t progress = 0;  // how much of `text` the pushed text ends with
  };
  struct Match {
    size_t begin;  // in the whole text
    size_t stop;   // index
  };

  void Advance(char byte);
  // Where the earliest match that is still possible begins.
  size_t UndecidedBegin() const;
  std::string Finish(const Match& match);

  std::vector<Stop> stops_;
  const bool include_stop_;
  std::string held_;
  size_t num_pushed_ = 0;          // bytes of the whole text so far; held_ are its last ones
  std::optional<Match> earliest_;  // found, but perhaps not the one that begins first
  std::optional<std::string> matched_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_STOP_MATCHER_H_
