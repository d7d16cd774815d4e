#ifndef KVEC_COORDINATOR_TEXT_INCREMENTAL_DETOKENIZER_H_
#define KVEC_COORDINATOR_TEXT_INCREMENTAL_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::text {

// Turns a stream of generated tokens into text that never ends inside a UTF-8 character. One per
// choice; not thread-safe. `tokenizer` must outlive it.
class IncrementalDetokenizer {
 public:
  IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // Returns the whole characters that are complete with this token; may be empty.
  std::string Push(int32_t id);

  // The rest at the end; an unfinished character becomes U+FFFD.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_;
  std::string pending_;  // bytes of an unfinished character
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_INCREMENTAL_DETOKENIZER_H_
