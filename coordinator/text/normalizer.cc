#include "coordinator/text/normalizer.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "coordinator/text/nfc.h"

namespace kvec::coordinator::text {

size_t MaxShrink(const std::vector<NormalizerStep>& steps) {
  // Of Unicode 15's characters none shrinks further under NFC: 9 bytes of Hangul to 3, the 3 of
  // the Kelvin sign to 1.
  constexpr size_t kNfcShrink = 3;
  size_t shrink = 1;
  for (const NormalizerStep& step : steps) {
    if (step.kind == NormalizerStep::Kind::kNfc) shrink *= kNfcShrink;
    const bool replaces = step.kind == NormalizerStep::Kind::kReplace;
    if (replaces && step.content.size() < step.pattern.size()) return 0;
  }
  return shrink;
}

absl::StatusOr<std::string> Normalize(absl::string_view text, Place place,
                                      const std::vector<NormalizerStep>& steps) {
  std::string result(text);
  for (const NormalizerStep& step : steps) {
    switch (step.kind) {
      case NormalizerStep::Kind::kNfc: {
        KVEC_ASSIGN_OR_RETURN(result, NormalizeNfc(result));
        break;
      }
      case NormalizerStep::Kind::kReplace:
        result = absl::StrReplaceAll(result, {{step.pattern, step.content}});
        break;
      case NormalizerStep::Kind::kPrependUnlessThereAtStart:
        if (place != Place::kStart) break;
        [[fallthrough]];
      case NormalizerStep::Kind::kPrependUnlessThere:
        if (absl::StartsWith(result, step.content)) break;
        [[fallthrough]];
      case NormalizerStep::Kind::kPrepend:
        result.insert(0, step.content);
        break;
    }
    // ICU and the merges count in 32 bits.
    if (result.size() > std::numeric_limits<int32_t>::max()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("text: ", result.size(), " bytes after normalisation"));
    }
  }
  return result;
}

}  // namespace kvec::coordinator::text
