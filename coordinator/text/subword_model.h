#ifndef KVEC_COORDINATOR_TEXT_SUBWORD_MODEL_H_
#define KVEC_COORDINATOR_TEXT_SUBWORD_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// Where in the whole text a part lies: some models put a space before its first word only.
enum class Place { kStart, kBehindSpecialToken };

// Turns text without special tokens into ids. Immutable; any thread.
class SubwordModel {
 public:
  virtual ~SubwordModel() = default;

  // Appends the ids of `text`, which is valid UTF-8 and not empty.
  virtual absl::Status Encode(absl::string_view text, Place place,
                              std::vector<int32_t>& ids) const = 0;

  // A text of n bytes gives tokens that add at least n / max_shrink() bytes to a text; 0: no such
  // bound, since the model drops text or makes one token of whatever it does not know.
  virtual size_t max_shrink() const = 0;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_SUBWORD_MODEL_H_
