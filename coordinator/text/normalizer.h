#ifndef KVEC_COORDINATOR_TEXT_NORMALIZER_H_
#define KVEC_COORDINATOR_TEXT_NORMALIZER_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/subword_model.h"

namespace kvec::coordinator::text {

// One change that a tokenizer makes to text before it looks for pieces.
struct NormalizerStep {
  enum class Kind {
    kNfc,
    kReplace,
    kPrepend,
    kPrependUnlessThere,         // not where the text begins with it already
    kPrependUnlessThereAtStart,  // the same, only at the start of the whole text
  };
  Kind kind = Kind::kNfc;
  std::string pattern = {};  // kReplace: the literal text that is replaced; not empty
  std::string content = {};  // of kReplace and kPrepend…
};

inline bool AddsPrefix(NormalizerStep::Kind kind) {
  return kind != NormalizerStep::Kind::kNfc && kind != NormalizerStep::Kind::kReplace;
}

// How many bytes of a text become one at most; 0: any number.
size_t MaxShrink(const std::vector<NormalizerStep>& steps);

// Applies the steps in order to valid UTF-8. INVALID_ARGUMENT as NormalizeNfc; RESOURCE_EXHAUSTED
// when replacements make the text larger than 2 GiB.
absl::StatusOr<std::string> Normalize(absl::string_view text, Place place,
                                      const std::vector<NormalizerStep>& steps);

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_NORMALIZER_H_
